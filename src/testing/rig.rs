//! Runs one case: the engine's own pipeline on the memory bus, on a clock that jumps to the next
//! thing to happen, with scripted peers.
//!
//! A step is over when nothing more can happen without time passing; the last one when everything
//! is settled, however long that takes on the case's clock. The same case has the same result,
//! always: chance comes from a fixed seed, and one thread runs it all.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{HeaderValue, Request, header::HOST};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::{
    case::{Case, Input, Step, Webhook},
    document,
    given::{HOST_NAME, incoming},
    observe::{Dead, Ending, Observed, PollRun, endings},
    script::{Answered, Seen, Stage},
};
use crate::{
    bus::{Accepted, Append, Bus as _, DeadId, MemoryBus, Seq},
    egress::{Egress, Peer},
    engine::{Solo, SoloParts},
    ingest::{
        name_event,
        poll::PollFailure,
        webhook::{Outgoing, Signer, WebhookObserver, sign},
    },
    map::Env,
    plan::{ConnectorPlan, StreamPlan, WebhookPlan},
    world::{Clock, ScriptedClock, ScriptedEntropy, Secret, Secrets, StaticSecrets, World},
};

/// Longer than anything that happens without time passing; a timer's resolution.
const INSTANT: Duration = Duration::from_millis(1);
/// How much longer than a destination's own patience the end of a test is waited for.
const SLACK: Duration = Duration::from_hours(3);
const SEED: u64 = 0x74_65_6e_6f_6e;

/// Runs a case from its beginning, step by step; `seen` gets what happened in each. Errors: the
/// connector does not start.
pub fn run(case: &Case, each: &mut dyn FnMut(&Step, Observed)) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut rig = Rig::new(case)?;
        let last = case.steps.len() - 1;
        for (number, step) in case.steps.iter().enumerate() {
            let observed = rig.step(number, step, number == last).await?;
            each(step, observed);
        }
        Ok(())
    })
}

struct Rig<'c> {
    case: &'c Case,
    plan: &'c Arc<ConnectorPlan>,
    world: World,
    bus: Arc<MemoryBus>,
    stage: Arc<Stage>,
    counts: Arc<Counts>,
    solo: Option<Solo>,
    ended: BTreeSet<Seq>,
    dead: BTreeSet<DeadId>,
}

/// What became of a step's input at the edge.
#[derive(Default)]
struct Taken {
    reply: Option<Value>,
    poll: Option<PollRun>,
    counts: BTreeMap<&'static str, u64>,
    /// Why records could not be named.
    unnamed: Vec<String>,
}

/// Counts what became of webhooks.
#[derive(Default)]
struct Counts(Mutex<BTreeMap<&'static str, u64>>);

impl WebhookObserver for Counts {
    fn counted(&self, _: &str, _: &str, outcome: &'static str, count: u64) {
        *self.0.lock().entry(outcome).or_default() += count;
    }

    fn acknowledged(&self, _: Duration) {}
}

impl<'c> Rig<'c> {
    fn new(case: &'c Case) -> Result<Self, String> {
        let mut secrets = case.subject.made_up_secrets();
        secrets.extend(case.secrets.clone());
        let pairs = secrets.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let clock: Arc<dyn Clock> = Arc::new(ScriptedClock::starting_at(case.now));
        let world = World {
            clock: Arc::clone(&clock),
            entropy: Arc::new(ScriptedEntropy::seeded(SEED)),
            secrets: Arc::new(StaticSecrets::new(pairs)),
        };
        let mut rig = Self {
            case,
            plan: &case.subject.plan,
            world,
            bus: MemoryBus::new(clock),
            stage: Arc::new(Stage::issuing(case.subject.token_answer())),
            counts: Arc::default(),
            solo: None,
            ended: BTreeSet::new(),
            dead: BTreeSet::new(),
        };
        rig.start()?;
        Ok(rig)
    }

    fn start(&mut self) -> Result<(), String> {
        let parts = SoloParts {
            world: self.world.clone(),
            bus: Arc::clone(&self.bus) as _,
            egress: Egress::scripted(Arc::clone(&self.stage) as _),
            observer: Arc::clone(&self.counts) as _,
        };
        self.solo = Some(Solo::start(self.plan, parts)?);
        Ok(())
    }

    /// Kills the daemon and starts it again.
    async fn restart(&mut self) -> Result<(), String> {
        if let Some(solo) = self.solo.take() {
            solo.kill().await;
        }
        self.start()
    }

    async fn step(&mut self, number: usize, step: &Step, last: bool) -> Result<Observed, String> {
        let responses = match &step.input {
            Input::Poll { responses, .. } => responses.as_slice(),
            _ => &[],
        };
        self.stage.begin(number, responses, &step.replies);
        let taken = self.drive(step).await?;
        self.quiesce(last).await?;
        self.observe(number, last, taken)
    }

    /// Lets the step's input come in, again and again where it kills the daemon.
    async fn drive(&mut self, step: &Step) -> Result<Taken, String> {
        loop {
            let stage = Arc::clone(&self.stage);
            let taken = match select(pin!(self.act(step)), pin!(stage.crashed())).await {
                Either::Left((taken, _)) => Some(taken?),
                Either::Right(_) => None,
            };
            if taken.is_none() || matches!(step.input, Input::Restart) {
                self.restart().await?;
            }
            if let Some(taken) = taken {
                return Ok(taken);
            }
        }
    }

    async fn act(&self, step: &Step) -> Result<Taken, String> {
        match &step.input {
            Input::Given { stream, records } => self.give(stream, records).await,
            Input::Request(webhook) => self.post(webhook).await,
            Input::Poll { stream, .. } => self.poll(stream).await,
            Input::Restart => Ok(Taken::default()),
            Input::Advance(duration) => {
                tokio::time::sleep(*duration).await;
                Ok(Taken::default())
            }
        }
    }

    /// Names records and appends them, each by itself.
    async fn give(&self, stream: &str, records: &[Value]) -> Result<Taken, String> {
        let mut taken = Taken::default();
        let stream = self.stream(Some(stream)).ok_or("no such stream")?;
        for record in records {
            let incoming = incoming(self.plan, stream, record, self.world.clock.now());
            let word = match name_event(self.plan, stream, incoming) {
                Ok(Some(event)) => {
                    let append = Append { events: vec![event], state: Vec::new() };
                    let accepted = self.bus.append(append).await.map_err(|e| e.to_string())?;
                    if accepted != [Accepted::Duplicate] {
                        continue;
                    }
                    "duplicate"
                }
                Ok(None) => "filtered",
                Err(error) => {
                    taken.unnamed.push(error.to_string());
                    "unnamed"
                }
            };
            *taken.counts.entry(word).or_default() += 1;
        }
        Ok(taken)
    }

    async fn post(&self, webhook: &Webhook) -> Result<Taken, String> {
        let solo = self.solo.as_ref().ok_or("the daemon is down")?;
        self.counts.0.lock().clear();
        let response = solo.webhook(self.request(webhook)?).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        let mut reply = Map::new();
        reply.insert("status".to_owned(), head.status.as_u16().into());
        reply.insert("headers".to_owned(), document::headers(&head.headers));
        if let Some(body) = document::body(&body.unwrap_or_default()) {
            reply.insert("body".to_owned(), body);
        }
        let counted = std::mem::take(&mut *self.counts.0.lock());
        let words = [("duplicate", "duplicate"), ("unmatched", "filtered"), ("unnamed", "unnamed")];
        let counts = words.iter().filter_map(|(theirs, ours)| Some((*ours, *counted.get(theirs)?)));
        Ok(Taken {
            reply: Some(Value::Object(reply)),
            counts: counts.collect(),
            ..Taken::default()
        })
    }

    fn request(&self, webhook: &Webhook) -> Result<Request<Full<Bytes>>, String> {
        let mut headers = webhook.headers.clone();
        let own = HeaderValue::from_static(HOST_NAME);
        let host = headers.entry(HOST).or_insert(own).to_str().unwrap_or(HOST_NAME).to_owned();
        let url = format!("http://{host}{}", webhook.path);
        let path = webhook.path.split('?').next().unwrap_or_default();
        let mut body = webhook.body.clone();
        let hook = self.plan.streams.iter().filter_map(|stream| stream.webhook.as_ref());
        if webhook.sign
            && let Some(hook) = hook.into_iter().find(|hook| hook.path == path)
        {
            self.sign(hook, webhook, &url, &mut headers, &mut body)?;
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = webhook.method.clone();
        *request.uri_mut() =
            webhook.path.parse().map_err(|_| format!("`{}` is no path", webhook.path))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn sign(
        &self,
        hook: &WebhookPlan,
        webhook: &Webhook,
        url: &str,
        headers: &mut http::HeaderMap,
        body: &mut Bytes,
    ) -> Result<(), String> {
        let secrets: Arc<dyn Secrets> = Arc::clone(&self.world.secrets);
        let env = Env::new()
            .with("vars", Arc::clone(&self.plan.vars))
            .with_secrets(secrets, Arc::clone(&self.plan.secret_names));
        let resolved = |expr: &crate::map::Expr| expr.secret(&env).map_err(|e| e.to_string());
        let secret = hook.secrets.first().map(|secret| resolved(&secret.value)).transpose()?;
        let secret = secret.unwrap_or_else(|| Secret::new(""));
        let user = hook.user.as_ref().map(resolved).transpose()?;
        let now = self.world.clock.now();
        let signer = Signer { plan: &hook.verify, secret: &secret, user: user.as_ref(), now };
        // What the daemon takes for the URL, too.
        let registered = hook.url.as_ref().map(resolved).transpose()?;
        let url = registered.map_or(url.to_owned(), |registered| {
            let base = registered.expose().split('?').next().unwrap_or_default().to_owned();
            let query = webhook.path.split_once('?').map(|(_, query)| format!("?{query}"));
            base + &query.unwrap_or_default()
        });
        let url = url.as_str();
        let mut outgoing = Outgoing { method: &webhook.method, url, headers, body };
        sign(&signer, &mut outgoing)
            .map_err(|problem| format!("the webhook cannot be signed: {problem}"))
    }

    async fn poll(&self, stream: &str) -> Result<Taken, String> {
        let solo = self.solo.as_ref().ok_or("the daemon is down")?;
        let ended = solo.poll(stream).await.ok_or("the stream does not poll")?;
        let (report, error) = match ended {
            Ok(report) => (report, None),
            Err((report, failure)) => {
                let (PollFailure::Later { message, .. }
                | PollFailure::Held(message)
                | PollFailure::Failed(message)) = failure;
                (report, Some(message))
            }
        };
        let counts = [
            ("duplicate", report.duplicates),
            ("filtered", report.filtered),
            ("unnamed", report.unnamed),
        ];
        Ok(Taken {
            counts: counts.into_iter().filter(|(_, count)| *count > 0).collect(),
            poll: Some(PollRun { error }),
            ..Taken::default()
        })
    }

    fn stream(&self, name: Option<&str>) -> Option<&'c Arc<StreamPlan>> {
        self.plan.streams.iter().find(|stream| name.is_none_or(|name| name == &*stream.name))
    }

    /// Waits until nothing more happens by itself: without time passing, or at the end of the case
    /// with as much of it as deliveries take.
    async fn quiesce(&mut self, to_the_end: bool) -> Result<(), String> {
        let patience = self.plan.destinations.values().map(|d| d.retry.within).max();
        let limit = self.world.clock.now().plus(patience.unwrap_or_default()).plus(SLACK);
        loop {
            self.idle().await?;
            let left = limit.since(self.world.clock.now());
            if !to_the_end || left.is_zero() || self.is_at_rest() {
                return Ok(());
            }
            let stage = Arc::clone(&self.stage);
            select(pin!(stage.changed()), pin!(tokio::time::sleep(left))).await;
        }
    }

    /// Lets all that can go on without time passing go on.
    async fn idle(&mut self) -> Result<(), String> {
        loop {
            let stage = Arc::clone(&self.stage);
            match select(pin!(stage.crashed()), pin!(tokio::time::sleep(INSTANT))).await {
                Either::Left(_) => self.restart().await?,
                Either::Right(_) => return Ok(()),
            }
        }
    }

    /// Whether whatever is not settled waits for a person.
    fn is_at_rest(&self) -> bool {
        let held = self.held();
        let mut open = self.bus.backlog().into_iter().filter(|lane| lane.unsettled > 0);
        open.all(|lane| held.contains_key(&lane.lane.destination))
    }

    fn held(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        self.solo.as_ref().map(|solo| solo.held().into_iter().collect()).unwrap_or_default()
    }

    /// What happened since the last step.
    fn observe(&mut self, number: usize, last: bool, taken: Taken) -> Result<Observed, String> {
        let seen = self.stage.seen();
        let held = self.held();
        let mut outcomes = taken.counts.clone();
        let mut records = Vec::new();
        let mut count = |word| *outcomes.entry(word).or_default() += 1;
        for (seq, event, ending) in endings(&*self.bus)? {
            if self.ended.contains(&seq) {
                continue;
            }
            match &ending {
                Ending::Open(destinations) => {
                    let waits = destinations.iter().all(|name| held.contains_key(name));
                    count(if waits { "held" } else { "pending" });
                    continue;
                }
                Ending::Delivered => {
                    count("delivered");
                    let stream = self.stream(Some(&event.stream)).ok_or("the stream is gone")?;
                    let output = crate::deliver::prepare(stream, &self.plan.vars, &event);
                    records.extend(output.ok().map(|output| Value::clone(output.value())));
                }
                Ending::Superseded => count("superseded"),
                Ending::Dead => count("dead"),
            }
            self.ended.insert(seq);
        }
        let delivered = self.delivered(number, &seen);
        Ok(Observed {
            number,
            records,
            requests: seen
                .iter()
                .filter(|s| s.asked_in == number && matches!(s.peer, Peer::Source(_)))
                .map(Seen::facts)
                .collect(),
            delivered,
            reply: taken.reply,
            poll: taken.poll,
            dead: self.newly_dead()?,
            outcomes,
            unnamed: taken.unnamed,
            held: held.into_iter().collect(),
            unused: self.stage.unused(last),
            seen: seen
                .into_iter()
                .filter(|s| {
                    s.asked_in == number || s.answered.as_ref().is_some_and(|a| a.0 == number)
                })
                .collect(),
        })
    }

    /// What each destination took in this step, in the order in which it answered.
    fn delivered(&self, number: usize, seen: &[Seen]) -> BTreeMap<Arc<str>, Vec<Value>> {
        let mut all: BTreeMap<Arc<str>, Vec<Value>> =
            self.plan.destinations.keys().map(|name| (Arc::clone(name), Vec::new())).collect();
        for (at, one) in seen.iter().enumerate() {
            let (Peer::Destination(name), Some((step, Answered::Status(200..=299)))) =
                (&one.peer, &one.answered)
            else {
                continue;
            };
            if *step != number {
                continue;
            }
            let same = |other: &&Seen| other.peer == one.peer && other.subject() == one.subject();
            let attempts = seen[..=at].iter().filter(same).count();
            let mut facts = one.facts();
            if self.case.subject.captured.contains(name) {
                let body = facts.get_mut("body").map(Value::take);
                facts = json!({ "body": body });
            }
            facts["attempts"] = attempts.into();
            all.entry(Arc::clone(name)).or_default().push(facts);
        }
        all
    }

    fn newly_dead(&mut self) -> Result<Vec<Dead>, String> {
        let mut dead = Vec::new();
        for summary in self.bus.dead_letters() {
            if self.dead.insert(summary.id) {
                let letter = self.bus.dead_letter(summary.id).map_err(|error| error.to_string())?;
                dead.extend(letter.as_ref().map(Dead::of));
            }
        }
        Ok(dead)
    }
}
