//! A bus whose appends wait for permission, and which remembers them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tenon::{
    bus::{
        Accepted, Append, AppendError, Backlog, Bus, BusHealth, DeadId, DeadLetter, DeadSummary,
        Delivery, HistoryPage, LaneId, LaneOptions, MemoryBus, NewEvent, Seq, Settlement, Steer,
        StoreError, TenantBacklog, Trace,
    },
    event::{EventId, Lane},
    world::{BoxFuture, Timestamp},
};
use tokio::sync::Semaphore;

/// See the module's text; everything but `append` is the bus behind it.
pub struct GatedBus {
    inner: Arc<MemoryBus>,
    gate: Semaphore,
    batches: Mutex<Vec<Append>>,
    /// While it is set no dead letter can be stored.
    refuses_letters: AtomicBool,
}

impl GatedBus {
    /// A gate before `inner` that lets nothing pass.
    pub fn new(inner: Arc<MemoryBus>) -> Arc<Self> {
        let gate = Semaphore::new(0);
        let refuses_letters = AtomicBool::new(false);
        Arc::new(Self { inner, gate, batches: Mutex::default(), refuses_letters })
    }

    /// Lets this many more appends pass.
    pub fn let_pass(&self, appends: usize) {
        self.gate.add_permits(appends);
    }

    /// Whether dead letters are refused from now on.
    pub fn refuse_letters(&self, refuse: bool) {
        self.refuses_letters.store(refuse, Ordering::Relaxed);
    }

    /// What passed so far.
    pub fn batches(&self) -> Vec<Append> {
        self.batches.lock().clone()
    }
}

impl Bus for GatedBus {
    fn append(&self, batch: Append) -> BoxFuture<'_, Result<Vec<Accepted>, AppendError>> {
        Box::pin(async move {
            self.gate.acquire().await.expect("the gate is never closed").forget();
            self.batches.lock().push(batch.clone());
            self.inner.append(batch).await
        })
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
        if self.refuses_letters.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError("the store is away".to_owned())) });
        }
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
        self.inner.state(key)
    }

    fn state_under(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        self.inner.state_under(prefix)
    }

    fn known<'a>(&'a self, events: &'a [NewEvent]) -> BoxFuture<'a, Vec<bool>> {
        self.inner.known(events)
    }

    fn state_page(&self, prefix: &str, after: Option<&str>, max: usize) -> Vec<(String, Vec<u8>)> {
        self.inner.state_page(prefix, after, max)
    }

    fn put_state(
        &self,
        key: &str,
        value: Option<Vec<u8>>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.put_state(key, value)
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
