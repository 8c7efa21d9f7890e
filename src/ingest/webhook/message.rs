//! What is signed: the bytes of a request that a signature is over. Pure.

use std::borrow::Cow;

use http::header::CONTENT_TYPE;

use super::{
    locate::{Look, single_header},
    verify::Reject,
};
use crate::{
    map::sha256_hex,
    plan::{SignedPart, UrlForm, VerifyPlan},
};

/// One request's signed text; see [`Message::feed`].
pub(super) struct Message<'a> {
    pub look: &'a Look<'a>,
    pub timestamp: Option<&'a str>,
    pub body: &'a [u8],
}

impl Message<'_> {
    /// The signed text in pieces, in order, for a URL of this form and this secret.
    pub fn feed(
        &self,
        signed: &[SignedPart],
        url: &str,
        secret: &[u8],
        take: &mut impl FnMut(&[u8]),
    ) -> Result<(), Reject> {
        let request = self.look.request;
        for part in signed {
            match part {
                SignedPart::Text(text) => take(text.as_bytes()),
                SignedPart::Body => take(self.body),
                SignedPart::BodySha256 => take(sha256_hex(self.body).as_bytes()),
                SignedPart::BodyCrc32 => {
                    take(crc32fast::hash(self.body).to_string().as_bytes());
                }
                SignedPart::Timestamp => {
                    take(self.timestamp.ok_or(Reject::NoTimestamp)?.as_bytes());
                }
                SignedPart::Url => take(url.as_bytes()),
                SignedPart::Method => take(request.method.as_str().as_bytes()),
                SignedPart::Header(name) => {
                    let value = single_header(request.headers, name);
                    take(value.ok_or(Reject::NoSignedPart)?.as_bytes());
                }
                SignedPart::Secret => take(secret),
                SignedPart::SortedForm => self.sorted_form(take),
                SignedPart::Field(expr) => {
                    let env = self.look.env.as_ref().ok_or(Reject::NoSignedPart)?;
                    let text = expr.text(env).ok().flatten().ok_or(Reject::NoSignedPart)?;
                    take(text.as_bytes());
                }
                SignedPart::Fields(names) => self.fields(names, take),
            }
        }
        Ok(())
    }

    /// The signed text as one piece.
    pub fn bytes(
        &self,
        signed: &[SignedPart],
        url: &str,
        secret: &[u8],
    ) -> Result<Vec<u8>, Reject> {
        let mut bytes = Vec::with_capacity(self.body.len() + 128);
        self.feed(signed, url, secret, &mut |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// Name and value of each field, sorted; a pair that stands there twice counts once.
    fn sorted_form(&self, take: &mut impl FnMut(&[u8])) {
        if !self.is_form() {
            return;
        }
        let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> =
            url::form_urlencoded::parse(self.body).collect();
        pairs.sort();
        pairs.dedup();
        for (name, value) in pairs {
            take(name.as_bytes());
            take(value.as_bytes());
        }
    }

    fn fields(&self, names: &[String], take: &mut impl FnMut(&[u8])) {
        for name in names {
            if let Some(value) = self.look.member(name) {
                take(format!("{name}\n{value}\n").as_bytes());
            }
        }
    }

    /// Whether the body is a form as its headers say, which is also how it will be decoded.
    pub fn is_form(&self) -> bool {
        let kind = self.look.request.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    }

    /// Whether this very request's body is determined by what is signed. A form's fields are, where
    /// the body is a form; nothing has to be where there is no body.
    pub fn is_bound(&self, plan: &VerifyPlan) -> bool {
        self.body.is_empty()
            || !plan.covers_body
            || plan.signed.iter().any(|part| match part {
                SignedPart::Body | SignedPart::BodySha256 => true,
                SignedPart::SortedForm => self.is_form(),
                _ => false,
            })
    }
}

/// What `HubSpot` decodes before it signs.
const DECODED: &[(&str, &str)] = &[
    ("3A", ":"),
    ("2F", "/"),
    ("3F", "?"),
    ("40", "@"),
    ("21", "!"),
    ("24", "$"),
    ("27", "'"),
    ("28", "("),
    ("29", ")"),
    ("2A", "*"),
    ("2C", ","),
    ("3B", ";"),
];

/// The URL in a form in which the producer may have signed it.
pub(super) fn url_in(form: UrlForm, url: &str) -> Cow<'_, str> {
    match form {
        UrlForm::AsSent => Cow::Borrowed(url),
        UrlForm::Decoded => decoded(url),
        UrlForm::WithPort => ported(url, true),
        UrlForm::WithoutPort => ported(url, false),
    }
}

fn decoded(url: &str) -> Cow<'_, str> {
    if !url.contains('%') {
        return Cow::Borrowed(url);
    }
    let mut out = String::with_capacity(url.len());
    let mut rest = url;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).unwrap_or_default();
        let known = DECODED.iter().find(|(known, _)| known.eq_ignore_ascii_case(code));
        let (plain, length) = known.map_or(("%", 1), |(_, plain)| (*plain, 3));
        out.push_str(plain);
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn ported(url: &str, with: bool) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else { return Cow::Borrowed(url) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    // The brackets of an IPv6 address hold colons, too.
    let port = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    let host = port.map_or(authority, |at| &authority[..at]);
    Cow::Owned(match (with, scheme) {
        (true, "https") => format!("{scheme}://{host}:443{tail}"),
        (true, _) => format!("{scheme}://{host}:80{tail}"),
        (false, _) => format!("{scheme}://{host}{tail}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_the_forms_that_producers_sign() {
        let url = "https://a.example/x%2Fy?c=%40d%20e%3d";
        assert_eq!(url_in(UrlForm::Decoded, url), "https://a.example/x/y?c=@d%20e%3d");
        assert_eq!(url_in(UrlForm::Decoded, "https://a.example/%"), "https://a.example/%");
        assert_eq!(url_in(UrlForm::WithPort, "https://a.example?b"), "https://a.example:443?b");
        assert_eq!(url_in(UrlForm::WithPort, "http://a.example:8/"), "http://a.example:80/");
        assert_eq!(url_in(UrlForm::WithoutPort, "https://[::1]:443/a:1"), "https://[::1]/a:1");
        assert_eq!(url_in(UrlForm::WithoutPort, "https://[::1]/"), "https://[::1]/");
    }
}
