//! The answer to a replay's dry run, line by line while it runs.
//!
//! The dry run lives in the response's body: a client that goes away stops it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    api::{Problem, ReplayLine},
    failure::ApiError,
    handle::{Body, with_headers},
};
use crate::{
    engine::{Against, Engine, ReplayError, ReplayReport, ReplayRequest},
    world::BoxFuture,
};

/// How often progress is told at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Begins the dry run as the answer is read.
pub fn preview(
    engine: Arc<Engine>,
    request: ReplayRequest,
    against: Option<Against>,
    stop: CancellationToken,
) -> Response<Body> {
    let (seen, seen_by) = watch::channel(0);
    let work = Box::pin(async move {
        let progress = move |events| _ = seen.send_replace(events);
        engine.preview_replay(request, against.as_ref(), &progress).await
    });
    let lines = lines(work, seen_by, stop);
    let frames = futures_util::StreamExt::map(lines, |line| Ok(Frame::data(to_line(&line))));
    let body = StreamBody::new(frames).boxed_unsync();
    with_headers(StatusCode::OK, "application/x-ndjson", body)
}

type Work = BoxFuture<'static, Result<ReplayReport, ReplayError>>;

fn lines(
    work: Work,
    seen_by: watch::Receiver<u64>,
    stop: CancellationToken,
) -> impl Stream<Item = ReplayLine> {
    stream::unfold(Some((work, seen_by, stop)), |state| async {
        let (mut work, mut seen_by, stop) = state?;
        loop {
            let last = tokio::select! {
                biased;
                () = stop.cancelled() => ended("stopping", "the daemon is shutting down"),
                result = &mut work => match result {
                    Ok(report) => ReplayLine::Report(report),
                    Err(error) => ReplayLine::Error(ApiError::from(error).problem),
                },
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    // An error says that the work dropped its end, which it does as it ends.
                    if !seen_by.has_changed().unwrap_or(false) {
                        continue;
                    }
                    let events = *seen_by.borrow_and_update();
                    return Some((ReplayLine::Progress(events), Some((work, seen_by, stop))));
                }
            };
            return Some((last, None));
        }
    })
}

fn ended(code: &str, message: impl Into<String>) -> ReplayLine {
    ReplayLine::Error(Problem { code: code.to_owned(), message: message.into() })
}

fn to_line(line: &ReplayLine) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    fn scripted(
        steps: u64,
        result: Result<ReplayReport, ReplayError>,
    ) -> (Work, watch::Receiver<u64>) {
        let (seen, seen_by) = watch::channel(0);
        let work = Box::pin(async move {
            for step in 1..=steps {
                tokio::time::sleep(Duration::from_millis(90)).await;
                seen.send_replace(step * 1000);
            }
            result
        });
        (work, seen_by)
    }

    #[tokio::test(start_paused = true)]
    async fn progress_is_throttled_and_the_report_is_last() {
        let report = ReplayReport { matched: 5000, ..ReplayReport::default() };
        let (work, seen_by) = scripted(5, Ok(report.clone()));
        let told: Vec<_> = lines(work, seen_by, CancellationToken::new()).collect().await;
        let expected =
            [ReplayLine::Progress(2000), ReplayLine::Progress(4000), ReplayLine::Report(report)];
        assert_eq!(told, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn failure_and_shutdown_are_told_as_the_last_line() {
        let (work, seen_by) =
            scripted(0, Err(ReplayError::Bad("`from` must be before `to`".to_owned())));
        let told: Vec<_> = lines(work, seen_by, CancellationToken::new()).collect().await;
        assert_eq!(told, [ended("bad_request", "`from` must be before `to`")]);

        let (work, seen_by) = scripted(5, Ok(ReplayReport::default()));
        let stop = CancellationToken::new();
        stop.cancel();
        let told: Vec<_> = lines(work, seen_by, stop).collect().await;
        assert_eq!(told, [ended("stopping", "the daemon is shutting down")]);
    }
}
