//! A connector file whose polls are run one at a time against a scripted API, on the memory bus and
//! a paused clock.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tenon::{
    auth::Authenticator,
    bus::{Bus, MemoryBus},
    diagnostic::{SourceFile, render_human},
    egress::{Egress, EgressConfig, Peer, Script},
    event::Event,
    ingest::poll::{PollFailure, PollReport, Poller, Source, Told, cursor_key, cursor_text},
    plan::{ConnectorPlan, Sources, compile_file},
    world::{ScriptedClock, ScriptedEntropy, StaticSecrets, Timestamp, World},
};

use super::MockServer;

/// 2026-11-22T10:00:00Z: when every test begins.
pub const BEGIN: Timestamp = Timestamp(1_795_341_600_000);

struct One(Arc<SourceFile>);

impl Sources for One {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        (path == self.0.path).then(|| Arc::clone(&self.0))
    }
}

/// A connector `shop` over a scripted API.
pub struct Walk {
    pub world: World,
    pub bus: Arc<MemoryBus>,
    pub plan: Arc<ConnectorPlan>,
    egress: Option<Egress>,
    told: Arc<Told>,
}

/// The connector's text: its source is the server, `tables` is the rest.
pub fn text(server: &MockServer, tables: &str) -> String {
    text_at(&server.url(""), tables)
}

fn text_at(base: &str, tables: &str) -> String {
    format!(
        "name = \"shop\"\n\
         [schedule]\nevery = \"5m\"\n\
         [destination.erp]\ntype = \"stdout\"\n\
         [source]\nbase = \"{base}\"\n{tables}\n"
    )
}

fn compile(text: &str) -> Arc<ConnectorPlan> {
    let path = PathBuf::from("shop.toml");
    let file = Arc::new(SourceFile { path: path.clone(), text: text.to_owned() });
    let compiled = compile_file(Path::new(""), &path, &One(file));
    let said = render_human(&compiled.diagnostics, false);
    compiled.plan.unwrap_or_else(|| panic!("{said}"))
}

impl Walk {
    /// `tables` follow the keys of `[source]`; the stream is called `orders` where nothing is said.
    pub fn new(server: &MockServer, tables: &str) -> Self {
        Self::of(&text(server, tables), None)
    }

    /// The same over an API that is no server.
    pub fn scripted(script: Arc<dyn Script>, tables: &str) -> Self {
        Self::of(&text_at("https://api.invalid", tables), Some(Egress::scripted(script)))
    }

    fn of(text: &str, egress: Option<Egress>) -> Self {
        let world = World {
            clock: Arc::new(ScriptedClock::starting_at(BEGIN)),
            entropy: Arc::new(ScriptedEntropy::seeded(7)),
            secrets: Arc::new(StaticSecrets::new([
                ("KEY", "s3cret"),
                ("SAME", "s3cret"),
                ("OTHER", "0ther"),
            ])),
        };
        let bus = MemoryBus::new(world.clock.clone());
        Self { world, bus, plan: compile(text), egress, told: Arc::default() }
    }

    /// The same daemon after a change of the file.
    pub fn changed(&self, server: &MockServer, tables: &str) -> Self {
        let plan = compile(&text(server, tables));
        self.with(plan)
    }

    /// Another connector of the same daemon.
    pub fn beside(&self, server: &MockServer, name: &str, tables: &str) -> Self {
        let text = text(server, tables).replacen("shop", name, 1);
        self.with(compile(&text))
    }

    fn with(&self, plan: Arc<ConnectorPlan>) -> Self {
        let (world, bus) = (self.world.clone(), Arc::clone(&self.bus));
        Self { world, bus, plan, egress: self.egress.clone(), told: Arc::clone(&self.told) }
    }

    /// What polls a stream.
    pub fn poller(&self, stream: &str) -> Poller {
        let find = |plan: &&Arc<tenon::plan::StreamPlan>| &*plan.name == stream;
        let stream = self.plan.streams.iter().find(find).expect("a stream of that name");
        let rate = &stream.poll.as_ref().expect("a poll").rate;
        let allow = vec!["127.0.0.0/8".parse().unwrap()];
        let network = || Egress::new(EgressConfig { allow, idle_per_host: 4 });
        let egress = self.egress.clone().unwrap_or_else(network);
        let auth = Authenticator::new(self.world.clone(), egress.clone(), self.bus.clone());
        let egress = egress.for_peer(Peer::Source(Arc::clone(&stream.name)));
        Poller {
            connector: Arc::clone(&self.plan),
            stream: Arc::clone(stream),
            world: self.world.clone(),
            egress,
            auth: Arc::new(auth),
            bus: self.bus.clone(),
            source: Arc::new(Source::new(rate).hearing(&self.told)),
            tenants: Arc::default(),
            skew: Arc::default(),
        }
    }

    /// One run of the stream `orders`.
    pub async fn run(&self) -> Result<PollReport, (PollReport, PollFailure)> {
        self.poller("orders").run(&|_| {}).await
    }

    /// One run that ends well.
    pub async fn fine(&self) -> PollReport {
        self.run().await.expect("the run ends well")
    }

    /// One run that does not.
    pub async fn failure(&self) -> PollFailure {
        self.run().await.expect_err("the run fails").1
    }

    /// Everything durable, in order.
    pub fn events(&self) -> Vec<Arc<Event>> {
        let far = Timestamp(i64::MAX);
        let (mut events, mut after) = (Vec::new(), None);
        loop {
            let page = self.bus.history(Timestamp(0), far, after).unwrap();
            events.extend(page.events.into_iter().map(|(_, event)| event));
            after = page.next;
            if after.is_none() {
                return events;
            }
        }
    }

    /// The keys of all that is durable.
    pub fn keys(&self) -> Vec<String> {
        self.events().iter().map(|event| event.key.clone()).collect()
    }

    /// The cursor of `orders` as text, if there is one.
    pub fn cursor(&self) -> Option<String> {
        let stored = self.bus.state(&cursor_key("shop", "orders"))?;
        cursor_text(&stored).expect("the cursor can be read")
    }

    /// How much time has passed since the test began.
    pub fn passed(&self) -> Duration {
        self.world.clock.now().since(BEGIN)
    }
}
