//! CONTRACT (to be replaced by the real files of this module).

use std::sync::Arc;

use bytes::Bytes;
use http::Request;

use crate::{bus::Bus, egress::Egress, map::Env, plan::AuthPlan, world::World};

/// Why a request could not be given credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// Nobody but a person can mend it: `invalid_grant`, an unset secret, a refused client. Holds the connector/destination; burns no attempts.
    Held(String),
    /// The token endpoint is down or slow: again later; burns no attempts (deferred).
    Later { message: String, retry_after: Option<std::time::Duration> },
}

/// Adds credentials; refreshes single-flight at 80 % of a token's life; a rotated refresh token is
/// durable (bus state `auth/<connector>/<auth>`) before the access token that came with it is used.
pub struct Authenticator { _private: () }

impl Authenticator {
    pub fn new(_world: World, _egress: Egress, _bus: Arc<dyn Bus>) -> Self { unimplemented!() }
    /// `env` has `vars` and `secret` bound.
    pub async fn apply(&self, _connector: &str, _plan: &AuthPlan, _env: &Env, _request: &mut Request<Bytes>) -> Result<(), AuthError> { unimplemented!() }
    /// After a 401: the cached token is forgotten (only if it is the one `request` carried), so that the next `apply` gets a new one.
    /// Whether trying again makes sense (a static credential: no).
    pub fn refused(&self, _connector: &str, _plan: &AuthPlan) -> bool { unimplemented!() }
    /// Forgets what belongs to a connector that is gone.
    pub fn forget(&self, _connector: &str) { unimplemented!() }
}
