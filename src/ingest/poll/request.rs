//! The request for one page, without credentials: pure.
//!
//! A query holds what stands in the URL, then `query` (a name given there replaces the URL's), then
//! the cursor's and the page's own parameters, which replace any other of their name. Everything is
//! percent-encoded but RFC 3986's unreserved characters. A `next` URL is sent as it is.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use url::Url;

use crate::{
    event::{Node, Record, Shape},
    map::{Env, EvalError, Expr},
    plan::{CursorFormat, PageBy, PollPlan, RequestBody},
    world::Timestamp,
};

use super::{cursor::CursorValue, page::Position, window::Window};

/// All but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Of a body that is a text.
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// What a request is made for.
pub(super) struct Ask<'a> {
    /// The connector's variables.
    pub vars: &'a Arc<Value>,
    /// When the run began: the same for all its requests.
    pub now: Timestamp,
    /// The window at hand.
    pub window: &'a Window,
    /// The page at hand.
    pub position: &'a Position,
    /// What it is made for, with `each`.
    pub each: Option<&'a Arc<Value>>,
    /// The listed record that it is made for, with `detail`.
    pub record: Option<&'a Record>,
    /// The job that it is about.
    pub job: Option<AboutJob<'a>>,
}

/// What a request about a job is made with.
#[derive(Clone, Copy)]
pub(super) struct AboutJob<'a> {
    /// `job`.
    pub job: &'a Arc<Value>,
    /// `response`: the answer that says that it is done.
    pub response: Option<&'a Arc<Value>>,
    /// How the window's ends are written.
    pub format: Option<&'a CursorFormat>,
    /// Where it goes, where an answer gave that.
    pub at: Option<&'a Url>,
    /// Where it was created.
    pub ours: &'a Url,
}

/// A request for a page.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Without credentials.
    pub request: Request<Bytes>,
    /// Where it goes.
    pub url: Url,
    /// Whether that is somebody else than the API: what they say of budgets and times is theirs.
    pub is_foreign: bool,
}

impl Asked {
    /// Whether it is the very same request.
    pub fn is_same(&self, other: &Self) -> bool {
        self.url == other.url
            && self.request.method() == other.request.method()
            && self.request.headers() == other.request.headers()
            && self.request.body() == other.request.body()
    }
}

/// Why no request can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestError {
    /// An expression failed; which setting it is.
    Eval(String, EvalError),
    /// The URL does not parse, or is no http(s) URL.
    BadUrl(String),
    /// A header's name, where the name or the value cannot be one.
    BadHeader(String),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eval(what, error) => write!(f, "{what}: {error}"),
            Self::BadUrl(problem) => write!(f, "the poll's URL is not one: {problem}"),
            Self::BadHeader(name) => write!(f, "the header `{name}` has a value it cannot have"),
        }
    }
}

/// The request for a page.
pub(super) fn build(plan: &PollPlan, ask: &Ask<'_>) -> Result<Asked, RequestError> {
    let env = names(plan, ask);
    let url = match (&ask.position.url, ask.job.and_then(|job| job.at)) {
        (Some(url), _) => url.clone(),
        (None, Some(at)) => with_query(at.clone(), plan, ask, &env)?,
        (None, None) => with_query(first_url(plan, &env)?, plan, ask, &env)?,
    };
    let (body, content_type) = body(plan, &env)?;
    let mut request = Request::new(body);
    *request.method_mut() = plan.method.clone();
    *request.uri_mut() =
        url.as_str().parse().map_err(|_| RequestError::BadUrl("it is too long".to_owned()))?;
    let headers = request.headers_mut();
    let is_file = ask.job.is_some() && !plan.decode.is_plain();
    let accepted = if is_file { "*/*" } else { "application/json" };
    headers.insert(header::ACCEPT, HeaderValue::from_static(accepted));
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in &plan.headers {
        if let Some(text) = text(&format!("headers.{name}"), value, &env)? {
            let bad = || RequestError::BadHeader(name.clone());
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            headers.insert(name, HeaderValue::from_str(&text).map_err(|_| bad())?);
        }
    }
    let is_foreign = ask.job.is_some_and(|job| job.ours.origin() != url.origin());
    Ok(Asked { request, url, is_foreign })
}

/// `vars`, `now`, `window`, `page` and what else it is made for. What there is none of is not there.
pub(super) fn names(plan: &PollPlan, ask: &Ask<'_>) -> Env {
    let mut window = Map::new();
    for (name, end) in [("start", &ask.window.start), ("end", &ask.window.end)] {
        let format = ask.job.and_then(|job| job.format).or(format_of(plan));
        if let Some(value) = print(format, end.as_ref()) {
            window.insert(name.to_owned(), value);
        }
    }
    let mut page = Map::new();
    page.insert("number".to_owned(), ask.position.number.into());
    page.insert("offset".to_owned(), ask.position.offset.into());
    if let Some(size) = plan.page.size {
        page.insert("size".to_owned(), size.into());
    }
    if let Some(token) = &ask.position.token {
        page.insert("token".to_owned(), token.clone());
    }
    let env = Env::new()
        .with("vars", Arc::clone(ask.vars))
        .with("now", Arc::new(Value::from(ask.now.rfc3339())))
        .with("window", Arc::new(Value::Object(window)))
        .with("page", Arc::new(Value::Object(page)));
    let env = match ask.each {
        Some(each) => env.with("each", Arc::clone(each)),
        None => env,
    };
    let env = match ask.job {
        Some(AboutJob { job, response, .. }) => {
            let env = env.with("job", Arc::clone(job));
            response.map_or_else(|| env.clone(), |it| env.clone().with("response", Arc::clone(it)))
        }
        None => env,
    };
    match ask.record {
        Some(record) => env.with_record("record", record.clone()),
        None => env,
    }
}

fn format_of(plan: &PollPlan) -> Option<&CursorFormat> {
    plan.cursor.as_ref().map(|cursor| &cursor.format)
}

/// A cursor value as the API is told it.
fn print(format: Option<&CursorFormat>, value: Option<&CursorValue>) -> Option<Value> {
    Some(value?.print(format?))
}

fn first_url(plan: &PollPlan, env: &Env) -> Result<Url, RequestError> {
    let text = text("the URL", &plan.url, env)?.unwrap_or_default();
    let url = Url::parse(&text).map_err(|error| RequestError::BadUrl(error.to_string()))?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err(RequestError::BadUrl("it is neither http nor https".to_owned()))
    }
}

fn with_query(
    mut url: Url,
    plan: &PollPlan,
    ask: &Ask<'_>,
    env: &Env,
) -> Result<Url, RequestError> {
    let mut written = Vec::with_capacity(plan.query.len());
    for (name, value) in &plan.query {
        let texts = texts(&format!("query.{name}"), value, env)?;
        written.extend(texts.into_iter().map(|text| (name.clone(), text)));
    }
    let own = own_parameters(plan, ask);
    if !written.is_empty() || !own.is_empty() {
        let mut pairs: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| !written.iter().any(|(n, _)| n == name))
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        pairs.extend(written);
        pairs.retain(|(name, _)| !own.iter().any(|(n, _)| n == name));
        pairs.extend(own);
        url.set_query(Some(&encode(&pairs)));
    }
    url.set_fragment(None);
    Ok(url)
}

/// What the cursor and the page add.
fn own_parameters(plan: &PollPlan, ask: &Ask<'_>) -> Vec<(String, String)> {
    let mut own = Vec::new();
    let mut add = |name: Option<&String>, value: Option<Value>| {
        if let (Some(name), Some(value)) = (name, value) {
            own.push((name.clone(), plain(&value)));
        }
    };
    if let Some(cursor) = &plan.cursor {
        let format = Some(&cursor.format);
        add(cursor.start_param.as_ref(), print(format, ask.window.start.as_ref()));
        add(cursor.end_param.as_ref(), print(format, ask.window.end.as_ref()));
    }
    add(plan.page.size_param.as_ref(), plan.page.size.map(Value::from));
    match &plan.page.by {
        PageBy::Page { param, .. } => add(param.as_ref(), Some(ask.position.number.into())),
        PageBy::Offset { param } => add(param.as_ref(), Some(ask.position.offset.into())),
        PageBy::Cursor { param, .. } | PageBy::Last { param, .. } => {
            add(param.as_ref(), ask.position.token.clone());
        }
        PageBy::None | PageBy::Next { .. } | PageBy::Link => {}
    }
    own
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn body(plan: &PollPlan, env: &Env) -> Result<(Bytes, Option<&'static str>), RequestError> {
    match &plan.body {
        None => Ok((Bytes::new(), None)),
        Some(RequestBody::Json(tree)) => {
            let text =
                tree.json(env).map_err(|error| RequestError::Eval("body".to_owned(), error))?;
            let text = text.unwrap_or_else(|| b"{}".to_vec());
            Ok((text.into(), Some("application/json")))
        }
        Some(RequestBody::Text(text)) => {
            let record =
                text.json(env).map_err(|error| RequestError::Eval("body".to_owned(), error))?;
            Ok(record.map_or((Bytes::new(), None), |record| {
                match record.root().map(Node::shape) {
                    // A text is sent as it is; what a lone expression gives else, as JSON.
                    Some(Shape::Text(text)) => (text.into_owned().into(), Some(PLAIN_TEXT)),
                    _ => (record.bytes().clone(), Some("application/json")),
                }
            }))
        }
        Some(RequestBody::Form(fields)) => {
            let mut pairs = Vec::with_capacity(fields.len());
            for (name, value) in fields {
                let texts = texts(&format!("form.{name}"), value, env)?;
                pairs.extend(texts.into_iter().map(|text| (name.clone(), text)));
            }
            Ok((encode(&pairs).into(), Some("application/x-www-form-urlencoded")))
        }
    }
}

fn text(what: &str, value: &Expr, env: &Env) -> Result<Option<String>, RequestError> {
    value.text(env).map_err(|error| RequestError::Eval(what.to_owned(), error))
}

/// A parameter's values: of a list each item, so that the parameter stands there as often.
fn texts(what: &str, value: &Expr, env: &Env) -> Result<Vec<String>, RequestError> {
    if !value.as_constant().is_some_and(Value::is_string) {
        let record = value.json(env).map_err(|e| RequestError::Eval(what.to_owned(), e))?;
        let root = record.as_ref().and_then(Record::root).filter(|root| root.is_array());
        let items: Option<Vec<String>> = root.and_then(|root| root.items().map(scalar).collect());
        if let Some(items) = items {
            return Ok(items);
        }
    }
    Ok(text(what, value, env)?.into_iter().collect())
}

fn scalar(item: Node<'_>) -> Option<String> {
    match item.shape() {
        Shape::Text(text) => Some(text.into_owned()),
        Shape::Number(digits) => Some(digits.to_owned()),
        Shape::Bool(truth) => Some(truth.to_string()),
        Shape::Null | Shape::Array | Shape::Object => None,
    }
}

/// `a=1&b=x%20y`.
fn encode(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| {
            let encoded = |text| utf8_percent_encode(text, ENCODED);
            format!("{}={}", encoded(name), encoded(value))
        })
        .collect();
    pairs.join("&")
}

/// A request for a message: method and URL, with the query's names and without its values.
pub(super) fn describe(method: &Method, url: &Url) -> String {
    let origin = url.origin().ascii_serialization();
    let names: Vec<String> =
        url.query_pairs().map(|(name, _)| format!("{}=…", name.escape_debug())).collect();
    let query = if names.is_empty() { String::new() } else { format!("?{}", names.join("&")) };
    format!("{method} {origin}{}{query}", url.path())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
