//! A request whose signed time is too far from ours: whether a clock is wrong, or a stranger.
//!
//! Pure. What is said here changes nothing about the refusal: a replay has a right signature and an old
//! time, too. It tells an operator where to look.

use bytes::Bytes;

use super::{
    jwt::Token,
    locate::Look,
    verify::{Keyring, RawBody, RequestParts, timestamp_of, verify},
};
use crate::{
    plan::{Algorithm, VerifyPlan},
    world::{Timestamp, skew_text},
};

/// What a refused request says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stale {
    /// When it says that it was signed.
    pub at: Timestamp,
    /// Whether somebody who holds the secret signed that.
    pub genuine: bool,
}

/// Looks again at a request that was refused for its time. `None`: it says none that can be read.
pub(super) fn look_again(
    plan: &VerifyPlan,
    ring: Keyring<'_>,
    request: &RequestParts<'_>,
    body: &Bytes,
    now: Timestamp,
) -> Option<Stale> {
    let timestamp = plan.timestamp.as_ref()?;
    let mut look = Look::new(plan, request, body).ok()?;
    let claims;
    if plan.algorithm == Algorithm::Jwt {
        let text = look.only(&plan.signature.as_ref()?.at)?;
        let token = Token::read(plan.jwt.as_ref()?, &text).ok()?;
        let live = ring.keys.iter().filter(|key| key.is_live(now));
        claims = token.claims(live, ring.fetched).ok()?;
        look.claims = Some(&claims);
    }
    let (_, at) = timestamp_of(timestamp, &look)?;
    // Seen from the time that it names it is neither too old nor too new.
    let genuine = verify(plan, ring, request, RawBody::new(body.clone()), at).is_ok();
    Some(Stale { at, genuine })
}

impl Stale {
    /// For the log, behind the word of the refusal.
    pub fn text(self, now: Timestamp) -> String {
        let skew = skew_text(self.at.0.saturating_sub(now.0));
        if self.genuine {
            format!(
                "its time is {skew} and its signature is right: a clock is wrong, or it was held \
                 back or sent again"
            )
        } else {
            format!("its time is {skew} and its signature is not right either")
        }
    }
}
