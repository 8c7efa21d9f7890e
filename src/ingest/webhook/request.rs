//! The name `request` in expressions: built only as far as the endpoint's expressions look at it.

use std::sync::Arc;

use http::{HeaderMap, Uri};
use serde_json::{Map, Value};

use super::{decode::form, verify::RequestParts};
use crate::{event::Record, map::Expr};

/// Which members of `request` are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestUse {
    method: bool,
    pub(super) url: bool,
    path: bool,
    query: bool,
    headers: bool,
    body: bool,
}

impl RequestUse {
    /// Adds what `expr` looks at.
    pub(super) fn add(&mut self, expr: &Expr) {
        for (name, member) in expr.uses() {
            if name != "request" {
                continue;
            }
            let all = member.is_none();
            let member = member.as_deref();
            self.method |= all || member == Some("method");
            self.url |= all || member == Some("url");
            self.path |= all || member == Some("path");
            self.query |= all || member == Some("query");
            self.headers |= all || member == Some("headers");
            self.body |= all || member == Some("body");
        }
    }

    fn any(self) -> bool {
        self != Self::default()
    }

    /// The document behind the name; `None` where nobody looks.
    pub(super) fn document(
        self,
        parts: &RequestParts<'_>,
        uri: &Uri,
        body: &Record,
    ) -> Option<Arc<Value>> {
        if !self.any() {
            return None;
        }
        let mut request = Map::new();
        let mut add = |wanted: bool, name: &str, value: &dyn Fn() -> Value| {
            if wanted {
                request.insert(name.to_owned(), value());
            }
        };
        add(self.method, "method", &|| parts.method.as_str().into());
        add(self.url, "url", &|| parts.url.into());
        add(self.path, "path", &|| uri.path().into());
        add(self.query, "query", &|| form(uri.query().unwrap_or_default().as_bytes()));
        add(self.headers, "headers", &|| headers_of(parts.headers));
        add(self.body, "body", &|| Value::clone(body.value()));
        Some(Arc::new(Value::Object(request)))
    }
}

/// Lower-case names; a header that stands there more than once is joined as RFC 9110 section 5.3
/// has it. Bytes that are no text are replaced.
pub(super) fn headers_of(headers: &HeaderMap) -> Value {
    let mut document = Map::with_capacity(headers.keys_len());
    for name in headers.keys() {
        let values: Vec<_> = headers
            .get_all(name)
            .into_iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        document.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    Value::Object(document)
}
