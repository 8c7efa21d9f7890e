//! One copy of what many connectors have alike: ten thousand of them are instances of a few.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// Values, each as long as somebody uses it, found again by what they were made from.
pub(super) struct Shared<T: ?Sized>(Mutex<Known<T>>);

struct Known<T: ?Sized> {
    by_hash: BTreeMap<u64, Weak<T>>,
    /// So many entries are worth looking for those that nobody uses any more.
    sweep_at: usize,
}

impl<T: ?Sized> Shared<T> {
    pub const fn new() -> Self {
        Self(Mutex::new(Known { by_hash: BTreeMap::new(), sweep_at: 64 }))
    }

    /// The value that was made from `from`, as `is` confirms, or a new one.
    pub fn get<E>(
        &self,
        from: impl Hash,
        is: impl Fn(&T) -> bool,
        make: impl FnOnce() -> Result<Arc<T>, E>,
    ) -> Result<Arc<T>, E> {
        let mut hasher = DefaultHasher::new();
        from.hash(&mut hasher);
        let hash = hasher.finish();
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().by_hash.get(&hash).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| is(known)) {
            return Ok(known);
        }
        let made = make()?;
        let mut known = lock();
        known.by_hash.insert(hash, Arc::downgrade(&made));
        if known.by_hash.len() > known.sweep_at {
            known.by_hash.retain(|_, value| value.strong_count() > 0);
            known.sweep_at = 2 * known.by_hash.len() + 64;
        }
        Ok(made)
    }
}

/// The text, shared with all who have the same.
pub fn text(text: &str) -> Arc<str> {
    static TEXTS: Shared<str> = Shared::new();
    let made: Result<_, std::convert::Infallible> =
        TEXTS.get(text, |known| known == text, || Ok(Arc::from(text)));
    let Ok(made) = made;
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_shared_and_what_is_not_is_forgotten() {
        let shared = Shared::<str>::new();
        let get = |text: &str| {
            let made: Result<_, ()> = shared.get(text, |known| known == text, || Ok(text.into()));
            made.unwrap()
        };
        let kept = get("kept");
        for n in 0..1_000 {
            get(&n.to_string());
        }
        assert!(Arc::ptr_eq(&kept, &get("kept")));
        assert!(shared.0.lock().unwrap().by_hash.len() < 100);
        assert_eq!(shared.get("x", |_| true, || Err("no")), Err("no"));
    }
}
