//! Where things stand in a request that is not verified yet: headers, the query, the body, the claims
//! of a token. Pure.
//!
//! The body is decoded here for nothing but to find a signature in it, or what is signed: what is
//! made of it never leaves verification.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_ENCODING};
use serde_json::{Map, Value};

use super::{
    decode::{Media, form, media_of},
    request::headers_of,
    verify::{Reject, RequestParts},
};
use crate::{
    event::Record,
    map::Env,
    plan::{HeaderPattern, Located, Place, SignedPart, VerifyPlan},
};

/// Deepest nesting of a body in which a signature is looked for.
const MAX_DEPTH: usize = 64;

/// A request, as far as verification looks at it.
pub(super) struct Look<'a> {
    pub request: &'a RequestParts<'a>,
    /// `request` with the decoded body, where the scheme looks into it.
    document: Option<Arc<Value>>,
    /// The same for expressions.
    pub env: Option<Env>,
    /// Of a token whose signature has been checked.
    pub claims: Option<&'a Value>,
}

impl<'a> Look<'a> {
    /// Decodes the body where the scheme looks into it; one that does not decode has no signature.
    pub fn new(
        plan: &VerifyPlan,
        request: &'a RequestParts<'a>,
        body: &Bytes,
    ) -> Result<Self, Reject> {
        if !needs_document(plan) {
            return Ok(Self { request, document: None, env: None, claims: None });
        }
        let document = Arc::new(document(request, body)?);
        let env = Env::new().with("request", Arc::clone(&document));
        Ok(Self { request, document: Some(document), env: Some(env), claims: None })
    }

    /// Everything that stands at the place, item by item.
    pub fn each(&self, at: &Located, mut found: impl FnMut(Cow<'a, str>)) {
        match &at.place {
            Place::Headers(names) => {
                for name in names {
                    self.header(name, at, &mut found);
                }
            }
            Place::Body(path) => {
                let Some(Ok(Some(value))) = self.env.as_ref().map(|env| path.eval(env)) else {
                    return;
                };
                match value {
                    Value::Array(items) => {
                        for item in &items {
                            owned(item, at, &mut found);
                        }
                    }
                    value => owned(&value, at, &mut found),
                }
            }
            Place::Query(name) => {
                for (key, value) in query_of(self.request.url) {
                    if key == name.as_str() {
                        items(at, &value).for_each(|item| found(Cow::Owned(item.to_owned())));
                    }
                }
            }
            Place::Claim(name) => {
                if let Some(value) = self.claims.and_then(|claims| claims.get(name)) {
                    owned(value, at, &mut found);
                }
            }
        }
    }

    fn header(&self, name: &HeaderPattern, at: &Located, found: &mut impl FnMut(Cow<'a, str>)) {
        let headers: &'a HeaderMap = self.request.headers;
        let mut take = |value: &'a http::HeaderValue| {
            if let Ok(text) = value.to_str() {
                items(at, text).for_each(|item| found(Cow::Borrowed(item)));
            }
        };
        match name {
            HeaderPattern::Exact(name) => headers.get_all(name).iter().for_each(take),
            HeaderPattern::Glob(..) => headers
                .iter()
                .filter(|(given, _)| name.matches(given.as_str()))
                .for_each(|(_, value)| take(value)),
        }
    }

    /// Everything that stands at the place.
    pub fn each_of(&self, at: &Located) -> Vec<Cow<'a, str>> {
        let mut all = Vec::new();
        self.each(at, |item| all.push(item));
        all
    }

    /// The one item that stands there; `None` where there is none or more than one.
    pub fn only(&self, at: &Located) -> Option<Cow<'a, str>> {
        let (mut first, mut count) = (None, 0);
        self.each(at, |item| {
            count += 1;
            first.get_or_insert(item);
        });
        first.filter(|_| count == 1)
    }

    /// The name `request` for where keys are asked for: headers, and the body where the scheme looks
    /// into it.
    pub fn request(&self) -> Arc<Value> {
        let mut request = Map::new();
        request.insert("headers".to_owned(), headers_of(self.request.headers));
        let body = self.document.as_ref().and_then(|document| document.get("body"));
        request.insert("body".to_owned(), body.cloned().unwrap_or_default());
        Arc::new(Value::Object(request))
    }

    /// A member of the decoded body at its top.
    pub fn member(&self, name: &str) -> Option<String> {
        text(self.document.as_ref()?.get("body")?.get(name)?)
    }
}

fn owned<'a>(value: &Value, at: &Located, found: &mut impl FnMut(Cow<'a, str>)) {
    if let Some(text) = text(value) {
        items(at, &text).for_each(|item| found(Cow::Owned(item.to_owned())));
    }
}

/// A text, a number or a boolean as it is signed.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// The items of a text, split at `list`, that begin with `take`, which is cut off.
fn items<'t>(at: &Located, text: &'t str) -> impl Iterator<Item = &'t str> {
    let take = at.take.as_deref().unwrap_or("");
    // Without a separator the whole value is the one item: nothing splits at a line break, which no
    // header value can hold.
    text.split(at.list.as_deref().unwrap_or("\n"))
        .filter_map(move |item| item.trim().strip_prefix(take))
        .filter(|item| !item.is_empty())
}

/// The parameters of a URL's query, decoded.
pub(super) fn query_of(url: &str) -> url::form_urlencoded::Parse<'_> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    url::form_urlencoded::parse(query.as_bytes())
}

/// A header that stands there exactly once.
pub(super) fn single_header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn needs_document(plan: &VerifyPlan) -> bool {
    let in_body = |at: &Located| matches!(at.place, Place::Body(_));
    let parts = |part: &SignedPart| matches!(part, SignedPart::Field(_) | SignedPart::Fields(_));
    let by_body = |keys: &crate::plan::KeysPlan| {
        let body = |(name, member): &(String, Option<String>)| {
            name == "request" && member.as_deref().is_none_or(|member| member == "body")
        };
        keys.url.uses().iter().any(body)
    };
    plan.signed.iter().any(parts)
        || plan.keys.as_ref().is_some_and(by_body)
        || plan.signature.as_ref().is_some_and(|signature| in_body(&signature.at))
        || plan.timestamp.as_ref().is_some_and(|timestamp| in_body(&timestamp.at))
}

/// `request` with the body, decoded.
fn document(request: &RequestParts<'_>, body: &Bytes) -> Result<Value, Reject> {
    if request.headers.contains_key(CONTENT_ENCODING) {
        return Err(Reject::NoSignature);
    }
    let body = match media_of(request.headers).map_err(|_| Reject::NoSignature)? {
        Media::Form => form(body),
        Media::Xml | Media::Csv => return Err(Reject::NoSignature),
        Media::Json => {
            let record = Record::parse(body.clone(), MAX_DEPTH).map_err(|_| Reject::NoSignature)?;
            Value::clone(record.value())
        }
    };
    let mut request = Map::new();
    request.insert("body".to_owned(), body);
    Ok(Value::Object(request))
}
