//! A bus on which what one stream remembers lies aside: whoever walks the stream through it neither
//! sees nor moves its cursor, and every event is the stream's own.

use std::sync::Arc;

use super::{
    Accepted, Append, AppendError, Backlog, Bus, BusHealth, DeadId, DeadLetter, DeadSummary,
    Delivery, Endings, HistoryPage, LaneId, LaneOptions, NewEvent, Seq, Settlement, Steer,
    StoreError, TenantBacklog, Trace, write_state,
};
use crate::{
    event::{EventId, Lane},
    world::{BoxFuture, Timestamp},
};

/// Before the keys of a backfill.
const BACKFILL: &str = "backfill/";
/// Before the keys of a reconciliation, which may run at the same time.
const RECONCILE: &str = "reconcile/";
/// Before what is remembered of records for the streams that are read for each of them.
const PARENT: &str = "parent/";
/// So many keys are looked at in one go.
const KEYS_A_PAGE: usize = 512;

/// See the module.
pub struct Aside {
    inner: Arc<dyn Bus>,
    /// Before the keys that lie aside.
    prefix: &'static str,
    /// `/shop/orders`: what follows the area in the keys of the stream.
    stream: String,
}

impl Aside {
    /// Over `inner`, for a backfill of one stream.
    pub fn of(inner: Arc<dyn Bus>, connector: &str, stream: &str) -> Arc<Self> {
        Arc::new(Self { inner, prefix: BACKFILL, stream: format!("/{connector}/{stream}") })
    }

    /// Over `inner`, for a reconciliation of one stream. What it finds is there for the streams that are
    /// read for each of its records, too, so what is remembered for those is shared with the live poll.
    pub fn reconciling(inner: Arc<dyn Bus>, connector: &str, stream: &str) -> Arc<Self> {
        Arc::new(Self { inner, prefix: RECONCILE, stream: format!("/{connector}/{stream}") })
    }

    /// Where a key of the stream lies aside. Keys are `area/connector/stream`, perhaps with more.
    pub fn key(&self, key: &str) -> String {
        let is_shared = self.prefix == RECONCILE && key.starts_with(PARENT);
        let is_own = !is_shared
            && key.find('/').is_some_and(|slash| {
                let rest = key[slash..].strip_prefix(self.stream.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
        if is_own { format!("{}{key}", self.prefix) } else { key.to_owned() }
    }

    /// Forgets all that lies aside.
    pub async fn clear(&self) -> Result<(), StoreError> {
        let mut after = None::<String>;
        loop {
            let page = self.inner.state_page(self.prefix, after.as_deref(), KEYS_A_PAGE);
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let own =
                page.into_iter().filter(|(key, _)| self.key(&key[self.prefix.len()..]) == *key);
            write_state(&*self.inner, own.map(|(key, _)| (key, None)).collect()).await?;
            // Where those of other streams lie aside there was nothing to write, nor to wait for.
            tokio::task::yield_now().await;
        }
    }

    /// What keys that begin with `prefix` begin with where they lie aside. `None`: they do not.
    fn prefix_aside(&self, prefix: &str) -> Option<String> {
        let aside = self.key(prefix.trim_end_matches('/'));
        let slash = if prefix.ends_with('/') { "/" } else { "" };
        aside.starts_with(self.prefix).then(|| aside + slash)
    }

    /// Entries that lie aside, under the keys they have for the stream.
    fn plain(&self, found: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
        let plain = |key: &str| key[self.prefix.len()..].to_owned();
        found.into_iter().map(|(key, value)| (plain(&key), value)).collect()
    }
}

impl Bus for Aside {
    fn append(&self, mut batch: Append) -> BoxFuture<'_, Result<Vec<Accepted>, AppendError>> {
        for (key, _) in &mut batch.state {
            *key = self.key(key);
        }
        self.inner.append(batch)
    }

    fn known<'a>(&'a self, events: &'a [NewEvent]) -> BoxFuture<'a, Vec<bool>> {
        self.inner.known(events)
    }

    fn open(&self, lane: &Lane, options: LaneOptions) -> LaneId {
        self.inner.open(lane, options)
    }

    fn take(&self, lane: LaneId, max: usize) -> BoxFuture<'_, Vec<Delivery>> {
        self.inner.take(lane, max)
    }

    fn hurry(&self, lane: LaneId, tenant: Option<&str>) {
        self.inner.hurry(lane, tenant);
    }

    fn steer(&self, lane: LaneId, tenant: Option<&str>, steer: Steer) -> bool {
        self.inner.steer(lane, tenant, steer)
    }

    fn tenant_backlog(&self, tenant: &str) -> TenantBacklog {
        self.inner.tenant_backlog(tenant)
    }

    fn tenants(&self) -> Vec<(Arc<str>, TenantBacklog)> {
        self.inner.tenants()
    }

    fn settle(&self, lane: LaneId, seq: Seq, settlement: Settlement) {
        self.inner.settle(lane, seq, settlement);
    }

    fn newest(&self, lane: LaneId, key: &str) -> Option<i64> {
        self.inner.newest(lane, key)
    }

    fn newest_of(&self, lane: &Lane, key: &str) -> Option<i64> {
        self.inner.newest_of(lane, key)
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

    fn discard_if(
        &self,
        id: DeadId,
        died_at: Timestamp,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.inner.discard_if(id, died_at)
    }

    fn state(&self, key: &str) -> Option<Vec<u8>> {
        self.inner.state(&self.key(key))
    }

    fn state_under(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let Some(aside) = self.prefix_aside(prefix) else { return self.inner.state_under(prefix) };
        self.plain(self.inner.state_under(&aside))
    }

    fn state_page(&self, prefix: &str, after: Option<&str>, max: usize) -> Vec<(String, Vec<u8>)> {
        let Some(aside) = self.prefix_aside(prefix) else {
            return self.inner.state_page(prefix, after, max);
        };
        let after = after.map(|after| format!("{}{after}", self.prefix));
        self.plain(self.inner.state_page(&aside, after.as_deref(), max))
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

    fn endings(&self, asked: &mut Endings, after: Option<Seq>) -> Result<Option<Seq>, StoreError> {
        self.inner.endings(asked, after)
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
        let page = |prefix: &str, after: Option<&str>| {
            let found = aside.state_page(prefix, after, 9).into_iter();
            found.map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(page("cursor/shop/orders", None), ["cursor/shop/orders", under[0].as_str()]);
        assert_eq!(page("cursor/shop/orders", Some("cursor/shop/orders")), under);
        assert_eq!(page("parent/shop/all", None), ["parent/shop/all"], "another stream's");
        aside.clear().await.unwrap();
        assert!(memory.state_under("backfill/").is_empty());
        assert!(memory.state("cursor/shop/orders2").is_some());
    }

    #[tokio::test]
    async fn others_run_while_those_of_other_streams_are_passed_over() {
        let memory = MemoryBus::new(Arc::new(SystemClock));
        for number in 0..5 * KEYS_A_PAGE {
            let key = format!("{BACKFILL}cursor/shop/orders/{number}");
            memory.put_state(&key, Some(b"1".to_vec())).await.unwrap();
        }
        let aside = Aside::of(memory.clone(), "shop", "refunds");
        let mut clear = std::pin::pin!(aside.clear());
        let mut turns = 0;
        let cleared = std::future::poll_fn(|context| {
            turns += 1;
            clear.as_mut().poll(context)
        });
        cleared.await.unwrap();
        assert!(turns >= 5, "{turns}");
        assert_eq!(memory.state_under(BACKFILL).len(), 5 * KEYS_A_PAGE);
    }

    #[tokio::test]
    async fn a_reconciliation_shares_what_it_remembers_for_children() {
        let memory = MemoryBus::new(Arc::new(SystemClock));
        let aside = Aside::reconciling(memory.clone(), "shop", "orders");
        for key in ["cursor/shop/orders", "parent/shop/orders/9"] {
            aside.put_state(key, Some(b"1".to_vec())).await.unwrap();
            assert_eq!(aside.state(key).as_deref(), Some(&b"1"[..]), "{key}");
        }
        assert_eq!(memory.state("cursor/shop/orders"), None);
        assert_eq!(aside.state_page("parent/shop/orders/", None, 9).len(), 1);
        aside.clear().await.unwrap();
        assert!(memory.state_under("reconcile/").is_empty());
        assert!(memory.state("parent/shop/orders/9").is_some());
    }
}
