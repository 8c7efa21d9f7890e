//! Conditional requests: "anything new since?", with what the server gave for it.
//!
//! Only a window that was one page asks so, because 304 then means that the whole of it has nothing
//! new: a page that was the last one is so still, as long as it is itself what says so. A `Link` header is
//! not: the page may be the same when another one follows it. Of several pages the first says nothing of
//! the others, so they are read again. What the server gave is stored with the records it came with, and
//! is worth nothing for another request or after a change of the connector.

use http::header;
use xxhash_rust::xxh3::xxh3_64;

use crate::{egress::Answer, plan::PageBy};

use super::{
    page::{Pages, Step},
    request::Asked,
    run::Run,
    stored::Validator,
};

impl Run<'_> {
    /// Asks only for what is new, where this very request was answered before. Whether it does.
    pub(super) fn make_conditional(&self, asked: &mut Asked) -> bool {
        let fingerprint = self.fingerprint(asked);
        let Some(stored) = self.validator.as_ref().filter(|it| it.request == fingerprint) else {
            return false;
        };
        for (name, value) in [
            (header::IF_NONE_MATCH, &stored.etag),
            (header::IF_MODIFIED_SINCE, &stored.last_modified),
        ] {
            if let Some(value) = value.as_ref().and_then(|value| value.parse().ok()) {
                asked.request.headers_mut().insert(name, value);
            }
        }
        true
    }

    /// What the next run may ask with, after the only page of a window.
    pub(super) fn validator_of(
        &self,
        asked: &Asked,
        answer: &Answer,
        pages: &Pages<'_>,
        step: Step,
    ) -> Option<Validator> {
        let is_all = (pages.is_one() || pages.read() == 1) && step == Step::Done;
        if !is_all || matches!(self.poll.page.by, PageBy::Link) || self.poll.job.is_some() {
            return None;
        }
        let of = |name| Some(answer.headers.get(name)?.to_str().ok()?.to_owned());
        let (etag, last_modified) = (of(header::ETAG), of(header::LAST_MODIFIED));
        (etag.is_some() || last_modified.is_some()).then(|| Validator {
            request: self.fingerprint(asked),
            etag,
            last_modified,
        })
    }

    /// Of the request and of the connector: after a change to either, "not modified" means nothing.
    fn fingerprint(&self, asked: &Asked) -> u64 {
        let mut text = asked.url.to_string().into_bytes();
        text.extend_from_slice(asked.request.body());
        text.extend_from_slice(&self.poller.connector.content.0);
        xxh3_64(&text)
    }
}
