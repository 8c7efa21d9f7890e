//! What each route does: asks the engine, shows the answer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    api::{
        BackfillBody, BackfillList, BodyView, BulkFailure, BulkReport, BulkRequest, Cancelled,
        DeadFilter, DeadList, Discarded, Empty, Failure, FlagList, ImportBody, Imported,
        LoginBegin, LoginBegun, LoginFinish, LoginFinished, LoginList, LoginView, PreviewBody,
        ReplayList, Replayed, ResumeRequest, Resumed, RolloutList, RolloutLog, StateList,
        StatusView, TraceView, VersionList,
    },
    failure::ApiError,
    progress,
    route::Route,
    views,
};
use crate::{
    auth::{LoginState, Redirected},
    bus::{Bus, DeadId, DeadSummary},
    engine::{Engine, FlagChange, Login, ReloadReport, ReplayError, ReplayStatus, RollbackRequest},
    event::{Event, EventId},
    ingest::poll::state,
    world::Secret,
};

/// A body that is whole or comes in lines.
pub type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Letters a bulk request takes where it names no limit.
const DEFAULT_BULK_LIMIT: usize = 1000;
/// Letters a bulk request takes at most.
const MAX_BULK_LIMIT: usize = 10_000;
/// After this long a bulk request answers with what it did so far.
const BULK_TIME: Duration = Duration::from_secs(20);

fn logins(engine: &Engine) -> LoginList {
    let now = engine.now();
    let view = |login: Login| {
        let (state, expires_at, message) = match login.state {
            Ok(Some(LoginState { refused: Some(message), .. })) => ("refused", None, Some(message)),
            // Whoever asks before the next attempt is not to hear of it only then.
            Ok(Some(LoginState { expires_at: Some(at), .. })) if at <= now => {
                ("logged_out", Some(at), None)
            }
            Ok(Some(state)) => ("logged_in", state.expires_at, None),
            Ok(None) => ("logged_out", None, None),
            Err(error) => ("unreadable", None, Some(error.to_string())),
        };
        LoginView {
            connector: login.connector.to_string(),
            auth: login.auth.to_string(),
            state: state.to_owned(),
            expires_at,
            message,
        }
    };
    LoginList { logins: engine.logins().into_iter().map(view).collect() }
}

/// Does what is asked. `body` is the request's, whole.
pub async fn handle(
    engine: &Arc<Engine>,
    route: Route,
    body: &[u8],
    stop: &CancellationToken,
) -> Result<Response<Body>, ApiError> {
    match route {
        Route::Health => Ok(text(StatusCode::OK, "text/plain", "ok\n")),
        Route::Ready => match engine.ready() {
            Ok(()) => Ok(text(StatusCode::OK, "text/plain", "ready\n")),
            Err(why) => Err(ApiError::not_ready(why)),
        },
        Route::Metrics => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            Ok(text(StatusCode::OK, kind, engine.metrics_text()))
        }
        Route::Status => Ok(json(StatusCode::OK, &status(engine))),
        Route::Reload => {
            let Empty {} = parse(body)?;
            Ok(json(StatusCode::OK, &reload(engine).await?))
        }
        Route::Resume => {
            let request: ResumeRequest = parse(body)?;
            let name = request.name.as_deref();
            let resumed =
                engine.resume(&request.connector, name).await.map_err(ApiError::not_found)?;
            Ok(json(StatusCode::OK, &Resumed { resumed }))
        }
        Route::Logins => Ok(json(StatusCode::OK, &logins(engine))),
        Route::LoginBegin => {
            let LoginBegin { connector, auth, redirect } = parse(body)?;
            let begun = engine.begin_login(&connector, auth.as_deref(), &redirect);
            let (auth, url) = begun.map_err(ApiError::bad_request)?;
            Ok(json(StatusCode::OK, &LoginBegun { auth: auth.to_string(), url }))
        }
        Route::LoginFinish => {
            let LoginFinish { connector, auth, code, state, issuer } = parse(body)?;
            let back = Redirected { code: Secret::new(code), state, issuer };
            let finished = engine.finish_login(&connector, &auth, &back).await;
            let resumed = finished.map_err(ApiError::bad_request)?;
            Ok(json(StatusCode::OK, &LoginFinished { resumed }))
        }
        Route::Replays => Ok(json(StatusCode::OK, &ReplayList { replays: engine.replays() })),
        Route::Replay => Ok(json(StatusCode::OK, &engine.replay(parse(body)?).await?)),
        Route::ReplayPreview => {
            let PreviewBody { request, against } = parse(body)?;
            Ok(progress::preview(engine.clone(), request, against, stop.clone()))
        }
        Route::ReplayShow(id) => replay(engine.replay_status(&id.to_string())),
        Route::ReplayPause(id) => replay(engine.pause_replay(&id.to_string()).await),
        Route::ReplayResume(id) => replay(engine.resume_replay(&id.to_string()).await),
        Route::ReplayCancel(id) => replay(engine.cancel_replay(&id.to_string()).await),
        Route::States { connector, stream } => {
            let streams = engine.poll_states(connector.as_deref(), stream.as_deref());
            Ok(json(StatusCode::OK, &StateList { streams }))
        }
        Route::StateExport { connector, stream } => {
            let export = state::export(&**engine.bus(), &connector, stream.as_deref());
            Ok(json(StatusCode::OK, &export.map_err(ApiError::not_found)?))
        }
        Route::StateImport => {
            let ImportBody { state, replace } = parse(body)?;
            let imported = engine.import_state(&state, replace).await;
            let entries = imported.map_err(ApiError::conflict)?;
            Ok(json(StatusCode::OK, &Imported { entries }))
        }
        Route::StateRewind => {
            let rewound = engine.rewind(&parse(body)?).await;
            Ok(json(StatusCode::OK, &rewound.map_err(ApiError::conflict)?))
        }
        Route::Rollouts { connector } => {
            let rollouts = engine.rollouts(connector.as_deref());
            if let (Some(name), true) = (&connector, rollouts.is_empty()) {
                let runs = engine.status().connectors.iter().any(|it| it.name == *name);
                return Err(ApiError::not_found(if runs {
                    format!("`{name}` is live, as its file says, and has no variant")
                } else {
                    format!("no connector named `{name}` runs")
                }));
            }
            Ok(json(StatusCode::OK, &RolloutList { rollouts }))
        }
        Route::Flags => Ok(json(StatusCode::OK, &FlagList { flags: engine.flags() })),
        Route::FlagChange => {
            let change: FlagChange = parse(body)?;
            let changed = to_its_end(engine, "flag", move |engine| async move {
                engine.change_flag(&change).await
            });
            Ok(json(StatusCode::OK, &changed.await?.map_err(ApiError::bad_request)?))
        }
        Route::RolloutLog => {
            Ok(json(StatusCode::OK, &RolloutLog { entries: engine.rollout_log() }))
        }
        Route::Versions { connector } => {
            let versions = engine.versions(&connector).await;
            Ok(json(StatusCode::OK, &VersionList { versions }))
        }
        Route::Rollback => {
            let request: RollbackRequest = parse(body)?;
            let done = to_its_end(engine, "rollback", move |engine| async move {
                engine.rollback(&request).await
            });
            Ok(json(StatusCode::OK, &done.await?.map_err(ApiError::conflict)?))
        }
        Route::Backfills => {
            Ok(json(StatusCode::OK, &BackfillList { backfills: engine.backfills() }))
        }
        Route::Backfill => {
            let BackfillBody { connector, stream, from, to } = parse(body)?;
            let begun = engine.backfill(&connector, &stream, &from, &to).await;
            Ok(json(StatusCode::OK, &begun?))
        }
        Route::BackfillCancel { connector, stream } => {
            let cancelled = engine.cancel_backfill(&connector, &stream).await?;
            Ok(json(StatusCode::OK, &Cancelled { cancelled }))
        }
        Route::Event { id, body } => trace(engine, id, body).await,
        Route::DeadList { filter, limit } => Ok(dead_list(engine, &filter, limit)),
        Route::DeadShow { id, body } => dead_show(engine, id, body).await,
        Route::DeadReplay(id) => dead_replay(engine, id).await,
        Route::DeadDiscard(id) => {
            if !engine.bus().discard(id).await? {
                return Err(no_letter(id));
            }
            Ok(json(StatusCode::OK, &Discarded { id: id.to_string() }))
        }
        Route::BulkDiscard => discard(engine, parse(body)?).await,
    }
}

fn replay(found: Result<ReplayStatus, ReplayError>) -> Result<Response<Body>, ApiError> {
    Ok(json(StatusCode::OK, &found?))
}

/// A client that goes away must not leave a reload half done, so it is not this request's own.
async fn reload(engine: &Arc<Engine>) -> Result<ReloadReport, ApiError> {
    let work = |engine: Arc<Engine>| async move {
        let mut report = engine.reload().await;
        // Also of what had not changed: a file watcher may have been quicker than who asks.
        report.generations = engine.generations();
        report
    };
    to_its_end(engine, "reload", work).await
}

/// A client that goes away must not leave a reload half done, so it is not this request's own.
async fn to_its_end<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    engine: &Arc<Engine>,
    name: &'static str,
    work: impl FnOnce(Arc<Engine>) -> F,
) -> Result<T, ApiError> {
    let (done, result) = oneshot::channel();
    let work = work(engine.clone());
    engine.attach(name, |_stop| async move {
        // Nobody waits any more: the log has it, too.
        let _ = done.send(work.await);
    });
    let ended = |_| ApiError::internal(format!("the {name} ended in a panic; see the log"));
    result.await.map_err(ended)
}

fn status(engine: &Engine) -> StatusView {
    let mut dead_by_connector = BTreeMap::new();
    for letter in engine.bus().dead_letters() {
        *dead_by_connector.entry(letter.lane.connector.to_string()).or_default() += 1;
    }
    StatusView { status: engine.status(), dead_by_connector }
}

async fn trace(
    engine: &Arc<Engine>,
    id: EventId,
    with_body: bool,
) -> Result<Response<Body>, ApiError> {
    let traces = reading(engine, move |bus| bus.trace(id)).await??;
    if traces.is_empty() {
        let message = format!("no event {id} in the journal (history ends after `bus.history`)");
        return Err(ApiError::not_found(message));
    }
    let runs = traces.into_iter().map(|trace| {
        let body = with_body.then(|| body_of(engine, &trace.event));
        views::run(trace, body)
    });
    Ok(json(StatusCode::OK, &TraceView { id: id.to_string(), runs: runs.collect() }))
}

fn dead_list(engine: &Engine, filter: &DeadFilter, limit: usize) -> Response<Body> {
    let letters = matching(engine, filter);
    let total = letters.len();
    let newest = letters.into_iter().rev().take(limit).map(views::dead_line);
    json(StatusCode::OK, &DeadList { letters: newest.collect(), total })
}

async fn dead_show(
    engine: &Arc<Engine>,
    id: DeadId,
    with_body: bool,
) -> Result<Response<Body>, ApiError> {
    let letter = reading(engine, move |bus| bus.dead_letter(id)).await??;
    let letter = letter.ok_or_else(|| no_letter(id))?;
    let body = with_body.then(|| body_of(engine, &letter.event));
    Ok(json(StatusCode::OK, &views::dead(id, letter, body)))
}

async fn dead_replay(engine: &Arc<Engine>, id: DeadId) -> Result<Response<Body>, ApiError> {
    reading(engine, move |bus| bus.dead_letter(id)).await??.ok_or_else(|| no_letter(id))?;
    let event = engine.replay_dead(id).await.map_err(ApiError::conflict)?;
    Ok(json(StatusCode::OK, &Replayed { id: id.to_string(), event: event.to_string() }))
}

/// One letter after the other, oldest first.
async fn discard(engine: &Arc<Engine>, request: BulkRequest) -> Result<Response<Body>, ApiError> {
    let filter = request.filter();
    if filter.is_empty() != request.all {
        return Err(ApiError::bad_request(
            "give a filter (connector, stream, destination, reason), or `all`, and not both",
        ));
    }
    let limit = request.limit.unwrap_or(DEFAULT_BULK_LIMIT);
    if !(1..=MAX_BULK_LIMIT).contains(&limit) {
        return Err(ApiError::bad_request(format!("`limit` is 1 to {MAX_BULK_LIMIT}")));
    }
    let letters = matching(engine, &filter);
    let mut report =
        BulkReport { matched: letters.len(), dry_run: request.dry_run, ..BulkReport::default() };
    let deadline = tokio::time::Instant::now() + BULK_TIME;
    for DeadSummary { id, .. } in letters {
        let is_spent = report.done.len() + report.failed.len() >= limit;
        if is_spent || tokio::time::Instant::now() >= deadline {
            report.more = true;
            break;
        }
        // `false`: somebody else discarded it meanwhile, which is what was asked for.
        let done = if request.dry_run { Ok(true) } else { engine.bus().discard(id).await };
        match done {
            Ok(_) => report.done.push(id.to_string()),
            Err(error) => {
                report.failed.push(BulkFailure { id: id.to_string(), message: error.0 });
            }
        }
    }
    Ok(json(StatusCode::OK, &report))
}

fn matching(engine: &Engine, filter: &DeadFilter) -> Vec<DeadSummary> {
    let mut letters = engine.bus().dead_letters();
    letters.retain(|letter| views::matches(filter, letter));
    letters
}

/// The record with its redacted fields masked, withheld where the stream does not run.
fn body_of(engine: &Engine, event: &Event) -> BodyView {
    views::body(event, engine.redactions(&event.connector, &event.stream).as_deref())
}

/// Runs what may read from the disk where it stops no other task.
async fn reading<T: Send + 'static>(
    engine: &Engine,
    read: impl FnOnce(&dyn Bus) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let bus = engine.bus().clone();
    tokio::task::spawn_blocking(move || read(bus.as_ref()))
        .await
        .map_err(|_| ApiError::internal("reading the store ended in a panic; see the log"))
}

fn no_letter(id: DeadId) -> ApiError {
    ApiError::not_found(format!("no dead letter {id}"))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// A JSON answer.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => text(status, "application/json", body),
        Err(error) => self::error(&ApiError::internal(error.to_string())),
    }
}

/// The answer to what was refused or failed.
pub fn error(error: &ApiError) -> Response<Body> {
    let failure = Failure { error: error.problem.clone() };
    let body = serde_json::to_vec(&failure).unwrap_or_default();
    text(error.status, "application/json", body)
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    with_headers(status, kind, Full::new(body.into()).boxed_unsync())
}

/// An answer with the headers that all have: never cached, never taken for a page.
pub fn with_headers(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
