//! From method, path and query to what is asked. Pure.

use http::Method;

use super::{api::DeadFilter, failure::ApiError};
use crate::{
    bus::DeadId,
    event::{EventId, ReplayId},
};

/// Dead letters listed where no limit is given.
const DEFAULT_LIST_LIMIT: usize = 100;
/// Dead letters listed at most.
const MAX_LIST_LIMIT: usize = 1000;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /healthz`
    Health,
    /// `GET /readyz`
    Ready,
    /// `GET /metrics`
    Metrics,
    /// `GET /api/v1/status`
    Status,
    /// `POST /api/v1/reload`
    Reload,
    /// `GET /api/v1/replays`
    Replays,
    /// `POST /api/v1/replays`
    Replay,
    /// `POST /api/v1/replays/preview`
    ReplayPreview,
    /// `GET /api/v1/replays/{id}`
    ReplayShow(ReplayId),
    /// `POST /api/v1/replays/{id}/pause`
    ReplayPause(ReplayId),
    /// `POST /api/v1/replays/{id}/resume`
    ReplayResume(ReplayId),
    /// `POST /api/v1/replays/{id}/cancel`
    ReplayCancel(ReplayId),
    /// `POST /api/v1/resume`
    Resume,
    /// `GET /api/v1/state`
    States {
        /// Only this connector.
        connector: Option<String>,
        /// Only this stream.
        stream: Option<String>,
    },
    /// `GET /api/v1/state/{connector}`
    StateExport {
        /// The connector's name.
        connector: String,
        /// Only this stream.
        stream: Option<String>,
    },
    /// `POST /api/v1/state/import`
    StateImport,
    /// `POST /api/v1/state/rewind`
    StateRewind,
    /// `GET /api/v1/auth`
    Logins,
    /// `POST /api/v1/auth/begin`
    LoginBegin,
    /// `POST /api/v1/auth/finish`
    LoginFinish,
    /// `GET /api/v1/rollouts` and `GET /api/v1/rollouts/{connector}`
    Rollouts {
        /// Only this connector.
        connector: Option<String>,
    },
    /// `GET /api/v1/flags`
    Flags,
    /// `POST /api/v1/flags`
    FlagChange,
    /// `GET /api/v1/flags/log`
    RolloutLog,
    /// `GET /api/v1/versions/{connector}`
    Versions {
        /// The connector's name.
        connector: String,
    },
    /// `POST /api/v1/rollback`
    Rollback,
    /// `GET /api/v1/backfills`
    Backfills,
    /// `POST /api/v1/backfills`
    Backfill,
    /// `DELETE /api/v1/backfills/{connector}/{stream}`
    BackfillCancel {
        /// The connector's name.
        connector: String,
        /// The stream's name.
        stream: String,
    },
    /// `GET /api/v1/events/{id}`
    Event {
        /// Which.
        id: EventId,
        /// With the records.
        body: bool,
    },
    /// `GET /api/v1/dlq`
    DeadList {
        /// Which.
        filter: DeadFilter,
        /// At most so many.
        limit: usize,
    },
    /// `GET /api/v1/dlq/{id}`
    DeadShow {
        /// Which.
        id: DeadId,
        /// With the record.
        body: bool,
    },
    /// `POST /api/v1/dlq/{id}/replay`
    DeadReplay(DeadId),
    /// `DELETE /api/v1/dlq/{id}`
    DeadDiscard(DeadId),
    /// `POST /api/v1/dlq/discard`
    BulkDiscard,
}

/// Finds the route. Parameters that it does not know are refused: a misspelt filter would
/// otherwise mean "all".
pub fn route(method: &Method, path: &str, query: Option<&str>) -> Result<Route, ApiError> {
    let mut query = Query::parse(query);
    let route = match path {
        "/healthz" => only(method, &Method::GET, Route::Health),
        "/readyz" => only(method, &Method::GET, Route::Ready),
        "/metrics" => only(method, &Method::GET, Route::Metrics),
        _ => {
            let rest = path.strip_prefix("/api/v1/").ok_or_else(|| no_route(path))?;
            api_route(method, rest, &mut query)
        }
    }?;
    query.finish()?;
    Ok(route)
}

fn api_route(method: &Method, rest: &str, query: &mut Query) -> Result<Route, ApiError> {
    let segments: Vec<&str> = rest.split('/').collect();
    match segments.as_slice() {
        ["status"] => only(method, &Method::GET, Route::Status),
        ["reload"] => only(method, &Method::POST, Route::Reload),
        ["replays"] if *method == Method::POST => Ok(Route::Replay),
        ["replays"] => only(method, &Method::GET, Route::Replays),
        ["replays", "preview"] => only(method, &Method::POST, Route::ReplayPreview),
        ["replays", id] => only(method, &Method::GET, Route::ReplayShow(replay_id(id)?)),
        ["replays", id, verb] => {
            let id = replay_id(id)?;
            let route = match *verb {
                "pause" => Route::ReplayPause(id),
                "resume" => Route::ReplayResume(id),
                "cancel" => Route::ReplayCancel(id),
                _ => return Err(no_route(&format!("/api/v1/{rest}"))),
            };
            only(method, &Method::POST, route)
        }
        ["resume"] => only(method, &Method::POST, Route::Resume),
        ["state"] => {
            let (connector, stream) = (query.take("connector"), query.take("stream"));
            only(method, &Method::GET, Route::States { connector, stream })
        }
        ["state", "import"] if *method == Method::POST => Ok(Route::StateImport),
        ["state", "rewind"] if *method == Method::POST => Ok(Route::StateRewind),
        ["state", connector] => {
            let (connector, stream) = ((*connector).to_owned(), query.take("stream"));
            only(method, &Method::GET, Route::StateExport { connector, stream })
        }
        ["auth"] => only(method, &Method::GET, Route::Logins),
        ["auth", "begin"] => only(method, &Method::POST, Route::LoginBegin),
        ["auth", "finish"] => only(method, &Method::POST, Route::LoginFinish),
        ["rollouts"] => only(method, &Method::GET, Route::Rollouts { connector: None }),
        ["rollouts", name] => {
            let connector = Some((*name).to_owned());
            only(method, &Method::GET, Route::Rollouts { connector })
        }
        ["flags"] if *method == Method::POST => Ok(Route::FlagChange),
        ["flags"] => only(method, &Method::GET, Route::Flags),
        ["flags", "log"] => only(method, &Method::GET, Route::RolloutLog),
        ["versions", name] => {
            let connector = (*name).to_owned();
            only(method, &Method::GET, Route::Versions { connector })
        }
        ["rollback"] => only(method, &Method::POST, Route::Rollback),
        ["backfills"] if *method == Method::POST => Ok(Route::Backfill),
        ["backfills"] => only(method, &Method::GET, Route::Backfills),
        ["backfills", connector, stream] => {
            let (connector, stream) = ((*connector).to_owned(), (*stream).to_owned());
            only(method, &Method::DELETE, Route::BackfillCancel { connector, stream })
        }
        ["events", id] => {
            let id = id.parse().map_err(|_| not_an_id("event", "evt_", id))?;
            only(method, &Method::GET, Route::Event { id, body: query.flag("body")? })
        }
        ["dlq"] => {
            let filter = DeadFilter {
                connector: query.take("connector"),
                stream: query.take("stream"),
                destination: query.take("destination"),
                reason: query.take("reason"),
            };
            let limit = query.limit()?;
            only(method, &Method::GET, Route::DeadList { filter, limit })
        }
        ["dlq", "discard"] => only(method, &Method::POST, Route::BulkDiscard),
        ["dlq", id] if *method == Method::DELETE => Ok(Route::DeadDiscard(dead_id(id)?)),
        ["dlq", id] => {
            let (id, body) = (dead_id(id)?, query.flag("body")?);
            only(method, &Method::GET, Route::DeadShow { id, body })
        }
        ["dlq", id, "replay"] => only(method, &Method::POST, Route::DeadReplay(dead_id(id)?)),
        _ => Err(no_route(&format!("/api/v1/{rest}"))),
    }
}

fn only(method: &Method, allowed: &Method, route: Route) -> Result<Route, ApiError> {
    // HEAD is GET whose body hyper leaves out.
    let is_head_of_get = *method == Method::HEAD && *allowed == Method::GET;
    if method == allowed || is_head_of_get {
        return Ok(route);
    }
    Err(ApiError::method_not_allowed(method, allowed))
}

fn no_route(path: &str) -> ApiError {
    ApiError::not_found(format!("there is no `{path}` here"))
}

fn not_an_id(what: &str, prefix: &str, text: &str) -> ApiError {
    ApiError::bad_request(format!("`{text}` is no {what}'s id: expected `{prefix}…`"))
}

fn replay_id(text: &str) -> Result<ReplayId, ApiError> {
    text.parse().map_err(|_| not_an_id("replay", "rp_", text))
}

fn dead_id(text: &str) -> Result<DeadId, ApiError> {
    parse_dead_id(text).ok_or_else(|| not_an_id("dead letter", "dl_", text))
}

/// Reads `dl_12` or `12`.
pub fn parse_dead_id(text: &str) -> Option<DeadId> {
    text.strip_prefix("dl_").unwrap_or(text).parse().ok().map(DeadId)
}

/// The query's pairs that nobody has taken yet.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name).as_deref() {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(other) => {
                Err(ApiError::bad_request(format!("`{name}` is `1` or `0`, not `{other}`")))
            }
        }
    }

    fn limit(&mut self) -> Result<usize, ApiError> {
        let Some(text) = self.take("limit") else {
            return Ok(DEFAULT_LIST_LIMIT);
        };
        text.parse().ok().filter(|limit| (1..=MAX_LIST_LIMIT).contains(limit)).ok_or_else(|| {
            ApiError::bad_request(format!("`limit` is 1 to {MAX_LIST_LIMIT}, not `{text}`"))
        })
    }

    fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(ApiError::bad_request(format!("unknown (or repeated) parameter `{name}`")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, target: &str) -> Result<Route, (u16, String)> {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        route(&method, path, query).map_err(|error| (error.status.as_u16(), error.problem.message))
    }

    #[test]
    fn every_route_is_found() {
        let id = EventId([7; 16]);
        let replay = ReplayId::new(crate::world::Timestamp(1_795_341_600_000), 7);
        let table = [
            (Method::GET, "/healthz".to_owned(), Route::Health),
            (Method::HEAD, "/readyz".to_owned(), Route::Ready),
            (Method::GET, "/metrics".to_owned(), Route::Metrics),
            (Method::GET, "/api/v1/status".to_owned(), Route::Status),
            (Method::POST, "/api/v1/reload".to_owned(), Route::Reload),
            (Method::GET, "/api/v1/replays".to_owned(), Route::Replays),
            (Method::POST, "/api/v1/replays".to_owned(), Route::Replay),
            (Method::POST, "/api/v1/replays/preview".to_owned(), Route::ReplayPreview),
            (Method::GET, format!("/api/v1/replays/{replay}"), Route::ReplayShow(replay)),
            (Method::POST, format!("/api/v1/replays/{replay}/pause"), Route::ReplayPause(replay)),
            (Method::POST, format!("/api/v1/replays/{replay}/resume"), Route::ReplayResume(replay)),
            (Method::POST, format!("/api/v1/replays/{replay}/cancel"), Route::ReplayCancel(replay)),
            (Method::POST, "/api/v1/resume".to_owned(), Route::Resume),
            (
                Method::GET,
                "/api/v1/state?stream=orders".to_owned(),
                Route::States { connector: None, stream: Some("orders".to_owned()) },
            ),
            (
                Method::GET,
                "/api/v1/state/shop".to_owned(),
                Route::StateExport { connector: "shop".to_owned(), stream: None },
            ),
            (Method::POST, "/api/v1/state/import".to_owned(), Route::StateImport),
            (Method::POST, "/api/v1/state/rewind".to_owned(), Route::StateRewind),
            (Method::GET, "/api/v1/auth".to_owned(), Route::Logins),
            (Method::POST, "/api/v1/auth/begin".to_owned(), Route::LoginBegin),
            (Method::POST, "/api/v1/auth/finish".to_owned(), Route::LoginFinish),
            (Method::GET, "/api/v1/rollouts".to_owned(), Route::Rollouts { connector: None }),
            (
                Method::GET,
                "/api/v1/rollouts/shop-next".to_owned(),
                Route::Rollouts { connector: Some("shop-next".to_owned()) },
            ),
            (Method::GET, "/api/v1/flags".to_owned(), Route::Flags),
            (Method::POST, "/api/v1/flags".to_owned(), Route::FlagChange),
            (Method::GET, "/api/v1/flags/log".to_owned(), Route::RolloutLog),
            (
                Method::GET,
                "/api/v1/versions/shop".to_owned(),
                Route::Versions { connector: "shop".to_owned() },
            ),
            (Method::POST, "/api/v1/rollback".to_owned(), Route::Rollback),
            (Method::GET, "/api/v1/backfills".to_owned(), Route::Backfills),
            (Method::POST, "/api/v1/backfills".to_owned(), Route::Backfill),
            (
                Method::DELETE,
                "/api/v1/backfills/shop/orders".to_owned(),
                Route::BackfillCancel { connector: "shop".to_owned(), stream: "orders".to_owned() },
            ),
            (Method::GET, format!("/api/v1/events/{id}?body=1"), Route::Event { id, body: true }),
            (
                Method::GET,
                "/api/v1/dlq?reason=map_failed&connector=shop%20eu&limit=5".to_owned(),
                Route::DeadList {
                    filter: DeadFilter {
                        connector: Some("shop eu".to_owned()),
                        reason: Some("map_failed".to_owned()),
                        ..DeadFilter::default()
                    },
                    limit: 5,
                },
            ),
            (
                Method::GET,
                "/api/v1/dlq/dl_3".to_owned(),
                Route::DeadShow { id: DeadId(3), body: false },
            ),
            (Method::POST, "/api/v1/dlq/3/replay".to_owned(), Route::DeadReplay(DeadId(3))),
            (Method::DELETE, "/api/v1/dlq/dl_3".to_owned(), Route::DeadDiscard(DeadId(3))),
            (Method::POST, "/api/v1/dlq/discard".to_owned(), Route::BulkDiscard),
        ];
        for (method, target, expected) in table {
            assert_eq!(asked(method, &target), Ok(expected), "{target}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            (Method::GET, "/nowhere", 404, "there is no `/nowhere` here"),
            (Method::GET, "/api/v1/dlq/1/2/3", 404, "there is no `/api/v1/dlq/1/2/3` here"),
            (Method::GET, "/api/v1/reload", 405, "GET is not possible here, POST is"),
            (Method::GET, "/api/v1/events/17", 400, "`17` is no event's id: expected `evt_…`"),
            (Method::GET, "/api/v1/replays/7", 400, "`7` is no replay's id: expected `rp_…`"),
            (Method::GET, "/api/v1/dlq/x", 400, "`x` is no dead letter's id: expected `dl_…`"),
            (
                Method::GET,
                "/api/v1/dlq?conector=a",
                400,
                "unknown (or repeated) parameter `conector`",
            ),
            (Method::GET, "/api/v1/dlq?limit=0", 400, "`limit` is 1 to 1000, not `0`"),
            (Method::GET, "/api/v1/dlq/1?body=yes", 400, "`body` is `1` or `0`, not `yes`"),
        ];
        for (method, target, status, message) in table {
            assert_eq!(asked(method, target), Err((status, message.to_owned())), "{target}");
        }
    }
}
