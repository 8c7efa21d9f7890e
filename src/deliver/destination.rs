//! A destination of whatever kind, open.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;

use super::{
    batch::{AttemptedBatch, BatchOutcome, Member},
    decide::{Attempted, Outcome},
    file::JsonLines,
    http::Http,
    stdout::Stdout,
};
use crate::{
    auth::Authenticator,
    egress::Egress,
    event::{Event, Record},
    map::Env,
    plan::{ConnectorPlan, DestinationKind, DestinationPlan},
    world::World,
};

/// A destination, open. One per connector and destination name; kept over a reload if its plan did
/// not change. It neither limits its rate nor retries: that is the engine's.
pub struct Destination {
    kind: Kind,
}

enum Kind {
    Http(Box<Http>),
    File(JsonLines),
    Stdout(Stdout),
}

impl Destination {
    /// Opens files, compiles nothing, dials nothing. What depends on nothing but `vars` is rendered
    /// here, once. The error is one line: a file that cannot be opened, a header that is none.
    pub fn open(
        connector: &ConnectorPlan,
        plan: Arc<DestinationPlan>,
        world: World,
        egress: Egress,
        auth: Arc<Authenticator>,
    ) -> Result<Self, String> {
        let kind = match &plan.kind {
            DestinationKind::Http { .. } => {
                Kind::Http(Box::new(Http::open(connector, &plan, world, egress, auth)?))
            }
            DestinationKind::File { path, rotate_bytes, rotate_every, keep } => {
                let rotation = super::file::Rotation {
                    bytes: *rotate_bytes,
                    every: *rotate_every,
                    keep: *keep,
                };
                let opened = JsonLines::open(path, rotation, world.clock)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                Kind::File(opened)
            }
            DestinationKind::Stdout => Kind::Stdout(Stdout::new(plan.timeout)),
        };
        Ok(Self { kind })
    }

    /// One attempt, bounded by the destination's timeout. Never retries inside, but for one token
    /// refresh after a 401, with the same idempotency key.
    ///
    /// `env` has `vars` and `secret`; `out` and `event` are bound here. What a file reports as
    /// delivered is so only once [`Self::sync`], called afterwards, was well.
    pub async fn attempt(&self, event: &Arc<Event>, out: &Record, env: &Env) -> Attempted {
        match &self.kind {
            Kind::Http(http) => http.attempt(event, out, env).await,
            Kind::File(file) => file.append(out.bytes()).into(),
            Kind::Stdout(stdout) => stdout.print(out.bytes()).await.into(),
        }
    }

    /// As [`Self::attempt`], for a batch: events of one stream and tenant, in order. What takes no
    /// batches gets them one by one.
    pub async fn attempt_batch(&self, members: &[Member], env: &Env) -> AttemptedBatch {
        if let Kind::Http(http) = &self.kind {
            return http.attempt_batch(members, env).await;
        }
        let mut outcomes = Vec::with_capacity(members.len());
        for Member { event, out } in members {
            outcomes.push(self.attempt(event, out, env).await.outcome);
        }
        BatchOutcome::Each(outcomes).into()
    }

    /// The request that an HTTP destination would send (a batch of one, where it takes batches), its credentials in headers marked as
    /// sensitive; `None` for the other kinds. Sends nothing, but a token may have to be asked for.
    pub async fn preview(
        &self,
        event: &Arc<Event>,
        out: &Record,
        env: &Env,
    ) -> Option<Result<Request<Bytes>, Outcome>> {
        match &self.kind {
            Kind::Http(http) => Some(http.preview(event, out, env).await),
            Kind::File(_) | Kind::Stdout(_) => None,
        }
    }

    /// Makes what was written durable (files): called before a group of deliveries is settled. Where
    /// it fails, none of the group counts as delivered: each is due again. Others are immediate.
    pub async fn sync(&self) -> Result<(), String> {
        match &self.kind {
            Kind::File(file) => file.sync().await,
            Kind::Http(_) | Kind::Stdout(_) => Ok(()),
        }
    }
}
