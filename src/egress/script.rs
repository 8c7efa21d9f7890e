//! Exchanges that a script answers: no socket, no name, no TLS. What tests of connectors dial.
//!
//! A script sees whole requests and gives whole answers. The limits of an exchange hold all the
//! same: an answer that takes too long is a timeout, one that is too large is refused or cut.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;

use super::{
    body::Unfit,
    client::{Answer, ExchangeLimits},
    error::EgressError,
};
use crate::world::BoxFuture;

/// Who is asked, as the engine sees it: one host may be several peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// The API that a stream of this name polls.
    Source(Arc<str>),
    /// The destination of this name.
    Destination(Arc<str>),
    /// Whoever gives out tokens.
    Issuer,
    /// Whoever gives out the keys that webhooks are verified with.
    Keys,
}

/// Answers in the network's place.
pub trait Script: Send + Sync {
    /// One request, one answer, or the failure that the network would have had.
    fn answer(
        &self,
        peer: &Peer,
        request: Request<Bytes>,
        limits: ExchangeLimits,
    ) -> BoxFuture<'_, Result<Answer, EgressError>>;
}

/// A script, and who it plays here.
pub(super) struct Scripted {
    pub(super) script: Arc<dyn Script>,
    pub(super) peer: Peer,
}

impl Scripted {
    pub(super) async fn exchange(
        &self,
        request: Request<Bytes>,
        limits: ExchangeLimits,
        unfit: Unfit,
    ) -> Result<Answer, EgressError> {
        let answering = self.script.answer(&self.peer, request, limits);
        let answered = tokio::time::timeout(limits.timeout, answering).await;
        let mut answer = answered.unwrap_or(Err(EgressError::Timeout))?;
        let limit_bytes = limits.max_response_bytes;
        if answer.body.len() > limit_bytes {
            match unfit {
                Unfit::Refuse => return Err(EgressError::ResponseTooLarge { limit_bytes }),
                Unfit::Cut => answer.body.truncate(limit_bytes),
            }
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::egress::Egress;

    /// Names the peer, after as many seconds as the path says.
    struct Slow;

    impl Script for Slow {
        fn answer(
            &self,
            peer: &Peer,
            request: Request<Bytes>,
            _limits: ExchangeLimits,
        ) -> BoxFuture<'_, Result<Answer, EgressError>> {
            let body = format!("{peer:?}").into();
            let seconds = request.uri().path().trim_start_matches('/').parse().unwrap_or(0);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Ok(Answer { status: StatusCode::OK, headers: HeaderMap::new(), body })
            })
        }
    }

    async fn asked(url: &str, max_response_bytes: usize) -> Result<Answer, EgressError> {
        let egress = Egress::scripted(Arc::new(Slow));
        let egress = egress.for_peer(Peer::Destination(Arc::from("erp")));
        let limits = ExchangeLimits { timeout: Duration::from_secs(5), max_response_bytes };
        egress.send(Request::get(url).body(Bytes::new()).unwrap(), limits).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_script_is_held_to_the_limits_of_an_exchange() {
        let answer = asked("https://erp.invalid/1", 100).await.unwrap();
        assert_eq!(answer.body, "Destination(\"erp\")");
        assert_eq!(asked("https://erp.invalid/6", 100).await.unwrap_err(), EgressError::Timeout);
        let too_large = asked("https://erp.invalid/1", 4).await.unwrap_err();
        assert_eq!(too_large, EgressError::ResponseTooLarge { limit_bytes: 4 });
        assert!(matches!(asked("ftp://erp.invalid/", 4).await, Err(EgressError::BadUrl(_))));
    }
}
