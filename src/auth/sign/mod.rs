//! What is signed here: tokens, and requests. Each signer is a function of the plan, the secrets and
//! the moment; none asks anybody.

pub(super) mod hmac;
pub(super) mod jwt;
mod key;
pub(super) mod sigv4;

use std::sync::Arc;

use serde_json::Value;

use crate::{
    map::Env,
    plan::TimestampForm,
    world::{Timestamp, World},
};

/// When something is signed, and what makes this time unlike any other.
pub(super) struct Moment {
    pub(super) now: Timestamp,
    /// 32 hexadecimal digits.
    pub(super) nonce: String,
}

impl Moment {
    pub(super) fn of(world: &World) -> Self {
        let (one, other) = (world.entropy.next_u64(), world.entropy.next_u64());
        Self { now: world.clock.now(), nonce: format!("{one:016x}{other:016x}") }
    }

    /// The names `now`, `timestamp` and `nonce`.
    pub(super) fn bound(&self, env: &Env, form: &TimestampForm) -> Env {
        env.clone()
            .with("now", Arc::new(Value::from(self.now.rfc3339())))
            .with("timestamp", Arc::new(self.written(form)))
            .with("nonce", Arc::new(Value::from(self.nonce.as_str())))
    }

    fn written(&self, form: &TimestampForm) -> Value {
        let pattern = match form {
            TimestampForm::Seconds => return self.seconds().into(),
            TimestampForm::Milliseconds => return self.now.0.into(),
            TimestampForm::Rfc3339 => "%Y-%m-%dT%H:%M:%SZ",
            TimestampForm::Http => "%a, %d %b %Y %H:%M:%S GMT",
            TimestampForm::Pattern(pattern) => pattern,
        };
        self.printed(pattern).into()
    }

    /// Since 1970.
    pub(super) fn seconds(&self) -> i64 {
        self.now.0.div_euclid(1_000)
    }

    /// By a strftime pattern, in UTC. A pattern that prints nothing was refused with its file.
    pub(super) fn printed(&self, pattern: &str) -> String {
        let time = jiff::Timestamp::from_second(self.seconds()).unwrap_or_default();
        let time = time.to_zoned(jiff::tz::TimeZone::UTC);
        jiff::fmt::strtime::format(pattern, &time).unwrap_or_default()
    }
}
