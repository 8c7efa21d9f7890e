//! Answers: what a producer gets to see. Fixed texts, and the ids of the events that it sent.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;

use crate::{bus::AppendError, event::EventId, plan::ReplyPlan};

/// How long a producer should wait when the bus does not say: long enough for a disk to recover,
/// short against every provider's own backoff.
const RETRY_AFTER_SECONDS: u64 = 5;

/// A whole answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// Why a request got no 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No stream listens on this path.
    NotFound,
    /// The path takes other methods: the value of `Allow`.
    MethodNotAllowed(String),
    /// The body is larger than the route takes, as sent or unpacked.
    TooLarge,
    /// The body took longer than the limit.
    SlowBody,
    /// The connection broke before the body's end.
    IncompleteBody,
    /// Too many bytes of bodies are held at present.
    Busy,
    /// Not believed: the plan's status, and whether to ask for basic credentials.
    BadSignature { status: u16, basic: bool },
    /// No secret of the route can be used.
    NoSecret,
    /// A content type or encoding that is not understood.
    UnsupportedMedia,
    /// The body is not what its headers say it is.
    Undecodable,
    /// An event within the body cannot be named.
    Unnamed,
    /// The bus took nothing; try again after so many seconds.
    NotAccepted(u64),
    /// The tenant has spent its budget; try again after so many seconds.
    TooMany(u64),
}

/// Who can bring a refusal about: each has its own gate to the log, so that strangers cannot
/// crowd out what the operator has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Anybody who reaches the port.
    Stranger,
    /// A producer that verified.
    Producer,
    /// We.
    Ourselves,
}

impl Refusal {
    /// What the answer says, and the log.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::TooLarge => "too_large",
            Self::SlowBody => "slow_body",
            Self::IncompleteBody => "incomplete_body",
            Self::Busy => "busy",
            Self::BadSignature { .. } => "bad_signature",
            Self::NoSecret | Self::NotAccepted(_) => "unavailable",
            Self::UnsupportedMedia => "unsupported_media_type",
            Self::Undecodable => "undecodable",
            Self::Unnamed => "unnamed_event",
            Self::TooMany(_) => "too_many_requests",
        }
    }

    /// What the metrics count it as.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::NotFound | Self::MethodNotAllowed(_) => "not_found",
            Self::TooLarge => "too_large",
            Self::SlowBody | Self::IncompleteBody | Self::UnsupportedMedia | Self::Undecodable => {
                "undecodable"
            }
            Self::BadSignature { .. } => "bad_signature",
            Self::Busy | Self::NoSecret | Self::NotAccepted(_) => "refused",
            Self::Unnamed => "unnamed",
            Self::TooMany(_) => "over_budget",
        }
    }

    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::NoSecret | Self::NotAccepted(_) | Self::Busy => Cause::Ourselves,
            Self::Unnamed | Self::Undecodable | Self::UnsupportedMedia | Self::TooMany(_) => {
                Cause::Producer
            }
            _ => Cause::Stranger,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::IncompleteBody | Self::Undecodable | Self::Unnamed => StatusCode::BAD_REQUEST,
            Self::Busy | Self::NoSecret | Self::NotAccepted(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadSignature { status, .. } => {
                StatusCode::from_u16(*status).unwrap_or(StatusCode::UNAUTHORIZED)
            }
            Self::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    pub(super) fn answer(&self) -> Answer {
        let mut answer = json(self.status(), format!(r#"{{"error":"{}"}}"#, self.word()));
        let headers = answer.headers_mut();
        match self {
            Self::MethodNotAllowed(allow) => {
                if let Ok(allow) = HeaderValue::from_str(allow) {
                    headers.insert(header::ALLOW, allow);
                }
            }
            Self::Busy => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(1));
            }
            Self::NoSecret => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            Self::NotAccepted(seconds) | Self::TooMany(seconds) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
            }
            Self::BadSignature { basic: true, .. } => {
                let ask = HeaderValue::from_static("Basic realm=\"webhooks\", charset=\"UTF-8\"");
                headers.insert(header::WWW_AUTHENTICATE, ask);
            }
            // What remains of the body will not be read.
            Self::SlowBody => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        answer
    }
}

impl From<&AppendError> for Refusal {
    fn from(error: &AppendError) -> Self {
        match error {
            AppendError::Full { retry_after, .. } => Self::NotAccepted(whole_seconds(*retry_after)),
            AppendError::Budget { retry_after, .. } => {
                Self::TooMany(whole_seconds(*retry_after).max(1))
            }
            AppendError::Unavailable(_) => Self::NotAccepted(RETRY_AFTER_SECONDS),
            AppendError::TooLarge { .. } => Self::TooLarge,
            AppendError::Closed => Self::NotAccepted(1),
        }
    }
}

/// Rounded up: who comes back a little late finds room, who comes early does not.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// 202 with the ids, or what the stream's `reply` says. Of a body that is one event there is one
/// id; where a body is split, or several streams took it, a list.
pub(super) fn accepted(ids: &[EventId], split: bool, reply: Option<&ReplyPlan>) -> Answer {
    if let Some(reply) = reply {
        return replied(reply);
    }
    let body = match ids {
        [only] if !split => format!(r#"{{"id":"{only}"}}"#),
        _ => {
            let mut body = String::with_capacity(16 + 33 * ids.len());
            body.push_str(r#"{"ids":["#);
            for (index, id) in ids.iter().enumerate() {
                body.push_str(if index == 0 { "\"" } else { ",\"" });
                body.push_str(&id.to_string());
                body.push('"');
            }
            body.push_str("]}");
            body
        }
    };
    json(StatusCode::ACCEPTED, body)
}

fn replied(reply: &ReplyPlan) -> Answer {
    let status = status_of(reply.status);
    match &reply.body {
        None => empty(reply.status),
        Some(Value::String(text)) => {
            let mut answer = json(status, text.clone());
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            answer.headers_mut().insert(header::CONTENT_TYPE, plain);
            answer
        }
        Some(document) => json(status, document.to_string()),
    }
}

/// The answer to a challenge.
pub(super) fn challenge(status: u16, document: &Value) -> Answer {
    json(status_of(status), document.to_string())
}

/// A text that a producer gave, back. No browser may take it for anything else.
pub(super) fn plain(status: u16, text: String) -> Answer {
    let mut answer = json(status_of(status), text);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// Nothing but a status.
pub(super) fn empty(status: u16) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status_of(status);
    answer
}

fn status_of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::OK)
}

fn json(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_sent_away_for_a_while_is_told_for_how_long() {
        let spent = |millis| AppendError::Budget {
            tenant: "acme".to_owned(),
            what: "accept",
            retry_after: Duration::from_millis(millis),
        };
        for (millis, seconds) in [(0, "1"), (400, "1"), (59_001, "60")] {
            let answer = Refusal::from(&spent(millis)).answer();
            assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(answer.headers().get(header::RETRY_AFTER).unwrap(), seconds);
        }
        for refusal in [Refusal::Busy, Refusal::NoSecret, Refusal::NotAccepted(7)] {
            assert!(refusal.answer().headers().contains_key(header::RETRY_AFTER), "{refusal:?}");
        }
    }
}
