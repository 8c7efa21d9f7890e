//! A bus on which what one stream remembers lies aside: whoever walks the stream through it neither
//! sees nor moves its cursor, and every event is the stream's own.

use std::sync::Arc;

use super::{
    Accepted, Append, AppendError, Backlog, Bus, BusHealth, DeadId, DeadLetter, DeadSummary,
    Delivery, HistoryPage, LaneId, LaneOptions, Seq, Settlement, StoreError, Trace,
};
use crate::{
    event::{EventId, Lane},
    world::{BoxFuture, Timestamp},
};

/// Before the keys that lie aside.
const PREFIX: &str = "backfill/";

/// See the module.
pub struct Aside {
    inner: Arc<dyn Bus>,
    /// `/shop/orders`: what follows the area in the keys of the stream.
    stream: String,
}

impl Aside {
    /// Over `inner`, for one stream.
    pub fn of(inner: Arc<dyn Bus>, connector: &str, stream: &str) -> Arc<Self> {
        Arc::new(Self { inner, stream: format!("/{connector}/{stream}") })
    }

    /// Where a key of the stream lies aside. Keys are `area/connector/stream`, perhaps with more.
    pub fn key(&self, key: &str) -> String {
        let is_own = key.find('/').is_some_and(|slash| {
            let rest = key[slash..].strip_prefix(self.stream.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if is_own { format!("{PREFIX}{key}") } else { key.to_owned() }
    }

    /// Forgets all that lies aside.
    pub async fn clear(&self) -> Result<(), StoreError> {
        for (key, _) in self.inner.state_under(PREFIX) {
            let plain = &key[PREFIX.len()..];
            if self.key(plain) == key {
                self.inner.put_state(&key, None).await?;
            }
        }
        Ok(())
    }
}

impl Bus for Aside {
    fn append(&self, mut batch: Append) -> BoxFuture<'_, Result<Vec<Accepted>, AppendError>> {
        for (key, _) in &mut batch.state {
            *key = self.key(key);
        }
        self.inner.append(batch)
    }

    fn open(&self, lane: &Lane, options: LaneOptions) -> LaneId {
        self.inner.open(lane, options)
    }

    fn take(&self, lane: LaneId, max: usize) -> BoxFuture<'_, Vec<Delivery>> {
        self.inner.take(lane, max)
    }

    fn settle(&self, lane: LaneId, seq: Seq, settlement: Settlement) {
        self.inner.settle(lane, seq, settlement);
    }

    fn newest(&self, lane: LaneId, key: &str) -> Option<i64> {
        self.inner.newest(lane, key)
    }

    fn backlog(&self) -> Vec<Backlog> {
        self.inner.backlog()
    }

    fn bury(&self, letter: DeadLetter) -> BoxFuture<'_, Result<DeadId, StoreError>> {
        self.inner.bury(letter)
    }

    fn dead_letters(&self) -> Vec<DeadSummary> {
        self.inner.dead_letters()
    }

    fn dead_letter(&self, id: DeadId) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.dead_letter(id)
    }

    fn discard(&self, id: DeadId) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.inner.discard(id)
    }

    fn state(&self, key: &str) -> Option<Vec<u8>> {
        self.inner.state(&self.key(key))
    }

    fn state_under(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let aside = self.key(prefix.trim_end_matches('/'));
        let Some(aside) = aside.strip_prefix(PREFIX) else { return self.inner.state_under(prefix) };
        let slash = if prefix.ends_with('/') { "/" } else { "" };
        let found = self.inner.state_under(&format!("{PREFIX}{aside}{slash}")).into_iter();
        found.map(|(key, value)| (key[PREFIX.len()..].to_owned(), value)).collect()
    }

    fn put_state(
        &self,
        key: &str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = self.key(key);
        Box::pin(async move { self.inner.put_state(&key, value).await })
    }

    fn history(
        &self,
        from: Timestamp,
        to: Timestamp,
        after: Option<Seq>,
    ) -> Result<HistoryPage, StoreError> {
        self.inner.history(from, to, after)
    }

    fn trace(&self, id: EventId) -> Result<Vec<Trace>, StoreError> {
        self.inner.trace(id)
    }

    fn health(&self) -> BusHealth {
        self.inner.health()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bus::MemoryBus, world::SystemClock};

    #[tokio::test]
    async fn only_the_streams_own_keys_lie_aside() {
        let memory = MemoryBus::new(Arc::new(SystemClock));
        let aside = Aside::of(memory.clone(), "shop", "orders");
        for key in ["cursor/shop/orders", "cursor/shop/orders/p1", "parent/shop/orders/9"] {
            aside.put_state(key, Some(b"1".to_vec())).await.unwrap();
            assert_eq!(memory.state(key), None, "{key}");
            assert_eq!(aside.state(key).as_deref(), Some(&b"1"[..]), "{key}");
        }
        for key in ["cursor/shop/orders2", "cursor/shop/refunds", "token/shop", "parent/shop/all"] {
            memory.put_state(key, Some(b"2".to_vec())).await.unwrap();
            assert_eq!(aside.state(key).as_deref(), Some(&b"2"[..]), "{key}");
        }
        let under: Vec<String> =
            aside.state_under("cursor/shop/orders/").into_iter().map(|(key, _)| key).collect();
        assert_eq!(under, ["cursor/shop/orders/p1"]);
        aside.clear().await.unwrap();
        assert!(memory.state_under("backfill/").is_empty());
        assert!(memory.state("cursor/shop/orders2").is_some());
    }
}
