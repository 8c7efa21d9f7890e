//! Something that happens once and that others wait for.

use tokio::sync::Semaphore;

/// Given once, and for good. A third of the size of a cancellation token, which can have children.
pub(super) struct Signal(Semaphore);

impl Signal {
    pub fn new() -> Self {
        Self(Semaphore::const_new(0))
    }

    pub fn give(&self) {
        self.0.close();
    }

    /// Completes once it is given, or at once where it was.
    pub async fn given(&self) {
        // There never is a permit: what ends the wait is that there will be none.
        drop(self.0.acquire().await);
    }

    /// Gives it when what is returned is dropped, however that comes.
    pub fn on_drop(&self) -> OnDrop<'_> {
        OnDrop(self)
    }
}

/// See [`Signal::on_drop`].
pub(super) struct OnDrop<'a>(&'a Signal);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.give();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::Signal;

    #[test]
    fn all_who_wait_and_all_who_come_later_see_it() {
        let signal = Signal::new();
        let (mut a, mut b) = (Box::pin(signal.given()), Box::pin(signal.given()));
        assert!((&mut a).now_or_never().is_none() && (&mut b).now_or_never().is_none());
        drop(signal.on_drop());
        assert!(a.now_or_never().is_some() && b.now_or_never().is_some());
        assert!(signal.given().now_or_never().is_some());
    }
}
