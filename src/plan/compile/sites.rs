//! Which names exist where: the language's table "names, each only where it exists".

use crate::map::Site;

const fn site(names: &'static [&'static str], root: Option<&'static str>) -> Site {
    Site { names, root, lenient: false }
}

const fn lenient(names: &'static [&'static str], root: Option<&'static str>) -> Site {
    Site { names, root, lenient: true }
}

/// Settings of auth, webhook and verify.
pub(super) static SETTINGS: Site = site(&["vars", "secret"], None);
/// What only variables decide.
pub(super) static VARS: Site = site(&["vars"], None);
/// The request of a login, and the claims of a token that is signed here.
pub(super) static SIGNING: Site = site(&["vars", "secret", "now", "timestamp", "nonce"], None);
/// A token's place in an answer, and its life: `$` is the answer's body.
pub(super) static TOKEN_ANSWER: Site = site(&["vars", "response"], Some("response"));
/// A header that carries a token.
pub(super) static TOKEN: Site = site(&["vars", "secret", "token"], None);
/// What an `hmac` signs.
pub(super) static SIGNED_REQUEST: Site = site(SIGNED_NAMES, None);
/// Where a signature goes.
pub(super) static SIGNATURE: Site = site(SIGNATURE_NAMES, None);
/// Requests of a poll.
pub(super) static REQUEST: Site = site(&["vars", "now", "window", "page", "each"], None);
/// Requests for a listed record.
pub(super) static DETAIL: Site =
    site(&["vars", "now", "window", "page", "each", "record"], Some("record"));
/// The request that creates a job: pages are those of its result.
pub(super) static CREATE: Site = site(&["vars", "now", "window", "each"], None);
/// The request that looks how a job stands.
pub(super) static JOB: Site = site(&["vars", "now", "window", "each", "job"], Some("job"));
/// The same where its answer is the result, which may have pages.
pub(super) static JOB_PAGES: Site =
    site(&["vars", "now", "window", "page", "each", "job"], Some("job"));
/// Whether a job is done: `$` is the body of the answer.
pub(super) static JOB_ANSWER: Site =
    lenient(&["vars", "each", "job", "response"], Some("response"));
/// The request for a job's result: `$` is the body of the answer that says that it is done.
pub(super) static DOWNLOAD: Site =
    site(&["vars", "now", "window", "page", "each", "job", "response"], Some("response"));
/// The same where its answer is the result's address.
pub(super) static DOWNLOAD_LOOKUP: Site =
    site(&["vars", "now", "window", "each", "job", "response"], Some("response"));
/// Lists that are known before anything is asked.
pub(super) static FIXED: Site = site(&["vars"], None);
/// `over` of `each`: `$` is a record of the parent.
pub(super) static PARENT: Site = site(&["vars", "record"], Some("record"));
/// `records` and `next`: `$` is the answer's body.
pub(super) static RESPONSE: Site = site(&["vars", "response"], Some("response"));
/// `stop`.
pub(super) static STOP: Site = lenient(&["vars", "response", "page"], Some("response"));
/// Rules of `on`.
pub(super) static RULE: Site = lenient(&["vars", "response"], Some("response"));
/// A cursor's `field`.
pub(super) static RECORD: Site = site(&["vars", "record"], Some("record"));
/// `events` of a webhook: `$` is the request's body.
pub(super) static EVENTS: Site = site(&["vars", "request"], Some("request"));
/// `map` and named maps: nothing that a replay could not see.
pub(super) static MAP: Site = site(&["vars", "record", "with", "event"], Some("record"));
/// Destinations: `$` is the mapped record.
pub(super) static DESTINATION: Site = site(&["vars", "secret", "out", "event"], Some("out"));
/// Settings of a destination that takes batches: `$` is the list of mapped records.
pub(super) static BATCH: Site = site(&["vars", "secret", "batch"], Some("batch"));
/// Rules for a destination's answers.
pub(super) static VERDICT: Site = lenient(&["vars", "response", "out", "event"], Some("response"));
/// Rules for answers to a batch as a whole.
pub(super) static BATCH_VERDICT: Site = lenient(&["vars", "response", "batch"], Some("response"));
/// Rules for answers to a batch that has a result for each event.
pub(super) static ITEM_VERDICT: Site =
    lenient(&["vars", "response", "batch", "item", "out", "event"], Some("response"));
/// Where the results of a batch stand.
pub(super) static RESULTS: Site = lenient(&["vars", "response"], Some("response"));
/// What a result and its event have in common: `$` is either.
pub(super) static RESULT_BY: Site = lenient(&["vars", "item"], Some("item"));
/// Whether a result says that its event was taken: `$` is the result.
pub(super) static RESULT_OK: Site =
    lenient(&["vars", "item", "out", "event", "response"], Some("item"));
/// Of a webhook's request, what is signed or where it stands: `$` is the request's body.
pub(super) static SIGNED: Site = site(&["request"], Some("request"));
/// Requests for the public keys of a verification.
pub(super) static KEYS: Site = site(&["vars", "secret", "request", "kid"], None);
/// A challenge's condition.
pub(super) static CHALLENGE_WHEN: Site = lenient(&["vars", "request"], None);
/// What a challenge looks at.
pub(super) static CHALLENGE: Site = site(&["vars", "request"], None);
/// A challenge's answer.
pub(super) static ANSWER: Site = site(&["vars", "request", "signature"], None);

const SIGNED_NAMES: &[&str] = &[
    "vars",
    "secret",
    "request",
    "method",
    "url",
    "host",
    "path",
    "query",
    "sorted_query",
    "body",
    "body_sha256",
    "timestamp",
    "nonce",
];
const SIGNATURE_NAMES: &[&str] = &[
    "vars",
    "secret",
    "signature",
    "request",
    "method",
    "url",
    "host",
    "path",
    "query",
    "sorted_query",
    "body",
    "body_sha256",
    "timestamp",
    "nonce",
];
const POLLED: &[&str] = &["vars", "record", "up", "each", "response"];
const PUSHED: &[&str] = &["vars", "record", "request"];
const BOTH: &[&str] = &["vars", "record", "up", "each", "request", "response"];

/// Key, revision, tenant and `with` of a stream with these sources.
pub(super) fn ingest(webhook: bool, poll: bool) -> Site {
    let names = match (webhook, poll) {
        (true, true) => BOTH,
        (true, false) => PUSHED,
        _ => POLLED,
    };
    site(names, Some("record"))
}

/// `when` and `delete` of a stream with these sources.
pub(super) fn ingest_lenient(webhook: bool, poll: bool) -> Site {
    Site { lenient: true, ..ingest(webhook, poll) }
}

/// Where a name exists, for whoever used it elsewhere.
pub(super) fn where_name_exists(name: &str, site: &Site) -> Option<&'static str> {
    let is_of_job = [&CREATE, &JOB, &DOWNLOAD_LOOKUP].iter().any(|it| it.names == site.names);
    Some(match name {
        "page" if is_of_job => {
            "of a poll with `job`, pages are those of the result: place it in the query, headers or \
             body of [stream.NAME.poll.job.download]"
        }
        "secret" => {
            "`secret` exists in auth, verify, webhook and destination settings; what a poll needs \
             goes into an [auth.NAME] table that the source names"
        }
        "now" | "window" | "page" => {
            "this name exists in a poll's path, query, headers, body and form"
        }
        "record" => {
            "`record` exists in key, revision, tenant, when, delete, with and map; destinations \
             see the mapped record as `out`"
        }
        "with" => "`with` exists in map",
        "token" => "`token` exists in `as.value` of an [auth.NAME] table",
        "timestamp" | "nonce" => {
            "this name exists in what is signed: an `hmac`, the claims of a token, a login's request"
        }
        "event" => "`event` exists in map and destinations",
        "out" => "`out`, the mapped record, exists in destinations",
        "response" => {
            "`response` exists in records, page and, for polled streams, in key, revision, tenant, \
             when, delete and with; hand it to map by `with`"
        }
        "request" => {
            "`request` exists in key, revision, tenant, when, delete and with of streams that take \
             webhooks; hand it to map by `with`"
        }
        "up" => {
            "`up`, what encloses a record, exists in key, revision, tenant, when, delete and with \
             of polled streams; hand it to map by `with`"
        }
        "kid" => "`kid`, the token's key id, exists in [verify.NAME.keys]",
        "signature" => {
            "`signature` exists in the `text` or `json` of a challenge that has `sign`, and in \
             `headers` and `query` of an `hmac`"
        }
        "each" => {
            "`each` exists in requests of a poll that has `each`, and in its stream's key, revision, \
             tenant, when, delete and with; hand it to map by `with`"
        }
        "job" => {
            "`job`, the first answer, exists in [stream.NAME.poll.job]: in the requests that look how \
             it stands and that fetch its result, in `done` and `failed`"
        }
        "batch" => {
            "`batch`, the list of mapped records, exists in the settings of a destination that has a \
             `batch` table, and in its rules"
        }
        "item" => {
            "`item`, one event's result, exists in `by`, `ok` and the rules of a destination whose \
             `batch` has `results`"
        }
        _ => return None,
    })
}
