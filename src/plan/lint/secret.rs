//! Credentials that are written in the file. Found by where they stand (a token's place takes a
//! secret), by the name of the header, parameter or variable they are given to, and by their look
//! (prefixes that providers give their keys), comments included: what was pushed once is known.

use std::ops::Range;

use super::names::names;
use crate::{
    definition::{
        auth::{AuthDef, AuthType, KeyEntry},
        collections::Pairs,
        connector::ConnectorDef,
        job::DownloadEntry,
        kinds::Expression,
        table::{At, Finding, Given, Loc},
        vars::{VarDef, VarEntry},
        webhook::SecretEntry,
    },
    diagnostic::codes,
};

/// Every literal credential of a file, each place once. `file` is its index for [`Loc`]s. What is
/// found is to be kept out of messages, which is the caller's part.
pub(in crate::plan) fn literal(def: &ConnectorDef, text: &str, file: u16) -> Vec<Finding> {
    let mut found = Found::default();
    for (_, auth) in def.auth.value().into_iter().flat_map(|named| &named.0) {
        of_auth(&auth.value, &mut found);
    }
    of_webhooks(def, &mut found);
    of_requests(def, &mut found);
    of_vars(def, &mut found);
    for range in by_look(text) {
        let cut = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let at = Loc { file, start: cut(range.start), end: cut(range.end) };
        found.add(at, "this looks like a credential");
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<Finding>);

impl Found {
    /// Where one place lies within another, the first to be found stands for both.
    fn add(&mut self, at: Loc, label: &str) {
        let covers = |one: &Finding| {
            one.at.file == at.file && one.at.start < at.end && at.start < one.at.end
        };
        if !self.0.iter().any(covers) {
            self.0.push(
                Finding::new(
                    codes::LITERAL_SECRET,
                    at,
                    "a credential is written in the file",
                    label,
                )
                .help(
                    "write {{ secret.NAME }} and set NAME in the environment or in the folder of \
                     secrets; what was pushed has to be renewed, too",
                ),
            );
        }
    }

    /// A place that takes a secret.
    fn expression(&mut self, given: Option<&At<Expression>>) {
        if let Some(given) = given.filter(|given| is_literal(&given.value)) {
            self.add(given.at, "a secret belongs here");
        }
    }

    /// Headers, parameters and form fields whose names say that they take one.
    fn pairs(&mut self, pairs: &Given<Pairs<Expression>>, takes_secret: fn(&str) -> bool) {
        for (name, value) in pairs.value().into_iter().flat_map(|pairs| &pairs.0) {
            if takes_secret(&name.to_ascii_lowercase()) && is_long(&value.value.text) {
                self.expression(Some(value));
            }
        }
    }
}

/// Whether a text has something in it and names nothing: neither a secret nor a variable, which may
/// hold a value that is an instance's own affair.
fn is_literal(value: &Expression) -> bool {
    let text = value.text.trim();
    !text.is_empty() && names(text).chains.is_empty()
}

/// Shorter values are switches and words.
fn is_long(text: &str) -> bool {
    const SHORTEST: usize = 8;
    text.trim().len() >= SHORTEST
}

fn of_auth(auth: &AuthDef, found: &mut Found) {
    match auth.kind.value() {
        Some(AuthType::Bearer) => found.expression(auth.token.get()),
        Some(AuthType::Header | AuthType::Query) => found.expression(auth.value.get()),
        Some(AuthType::Basic) => {
            // Some APIs take the key as the user's name, and any word or none as the password.
            let (user, password) = (auth.user.get(), auth.password.get());
            let names_secret = |given: &At<Expression>| {
                names(&given.value.text).chains.iter().any(|chain| chain.root == "secret")
            };
            if !user.is_some_and(names_secret) {
                let filled = password.filter(|it| !it.value.text.trim().is_empty());
                found.expression(filled.or(user));
            }
        }
        Some(AuthType::OAuth2) => {
            found.expression(auth.client_secret.get());
            found.expression(auth.refresh_token.get());
            found.pairs(&auth.params, is_secret_parameter);
        }
        Some(AuthType::Login) => {
            if let Some(request) = auth.request.value() {
                found.pairs(&request.headers, is_secret_header);
                found.pairs(&request.query, is_secret_parameter);
                found.pairs(&request.form, is_secret_parameter);
            }
        }
        Some(AuthType::SigV4) => {
            found.expression(auth.secret_key.get());
            found.expression(auth.session_token.get());
        }
        Some(AuthType::Mtls) => found.expression(auth.private_key.get()),
        Some(AuthType::Hmac | AuthType::Jwt) | None => {}
    }
    let jwts = [&auth.jwt, &auth.client_jwt].into_iter().filter_map(Given::value);
    for key in jwts.map(|jwt| &jwt.key).chain([&auth.key]).filter_map(Given::get) {
        match &key.value {
            KeyEntry::Value(text) if is_literal(text) => found.add(key.at, "a secret belongs here"),
            KeyEntry::Value(_) => {}
            KeyEntry::Table(table) => found.expression(table.secret.get()),
        }
    }
}

fn of_webhooks(def: &ConnectorDef, found: &mut Found) {
    let entries = |found: &mut Found, given: &Given<Vec<At<SecretEntry>>>| {
        for entry in given.value().into_iter().flatten() {
            match &entry.value {
                SecretEntry::Value(value) if is_literal(value) => {
                    found.add(entry.at, "a secret belongs here");
                }
                SecretEntry::Value(_) => {}
                SecretEntry::Dated(dated) => found.expression(dated.value.get()),
            }
        }
    };
    if let Some(shared) = def.source.value().and_then(|source| source.webhook.value()) {
        found.expression(shared.secret.get());
        entries(found, &shared.secrets);
    }
    for (_, stream) in def.stream.value().into_iter().flat_map(|named| &named.0) {
        if let Some(webhook) = stream.value.webhook.value() {
            found.expression(webhook.secret.get());
            entries(found, &webhook.secrets);
        }
    }
    for (_, verify) in def.verify.value().into_iter().flat_map(|named| &named.0) {
        found.expression(verify.value.key.value().and_then(|key| key.secret.get()));
    }
}

fn of_requests(def: &ConnectorDef, found: &mut Found) {
    if let Some(source) = def.source.value() {
        found.pairs(&source.headers, is_secret_header);
        found.pairs(&source.query, is_secret_parameter);
    }
    for (_, stream) in def.stream.value().into_iter().flat_map(|named| &named.0) {
        if let Some(poll) = stream.value.poll.value() {
            found.pairs(&poll.headers, is_secret_header);
            found.pairs(&poll.query, is_secret_parameter);
            found.pairs(&poll.form, is_secret_parameter);
            if let Some(job) = poll.job.value() {
                found.pairs(&job.headers, is_secret_header);
                found.pairs(&job.query, is_secret_parameter);
                if let Some(DownloadEntry::Table(download)) = job.download.value() {
                    found.pairs(&download.headers, is_secret_header);
                    found.pairs(&download.query, is_secret_parameter);
                }
            }
        }
    }
    for (_, destination) in def.destination.value().into_iter().flat_map(|named| &named.0) {
        found.pairs(&destination.value.headers, is_secret_header);
    }
}

/// Whether the default is one of several words that stand in the file: a choice, such as one of
/// credentials, and no credential.
fn is_choice(declared: &VarDef) -> bool {
    let words = declared.one_of.value().map_or(&[][..], Vec::as_slice);
    let default = declared.default.value();
    words.len() > 1 && words.iter().any(|word| default.is_some_and(|d| d.0 == word.value.0))
}

fn of_vars(def: &ConnectorDef, found: &mut Found) {
    for (name, entry) in def.vars.value().into_iter().flat_map(|named| &named.0) {
        let (value, at) = match &entry.value {
            VarEntry::Value(value) => (Some(value), entry.at),
            VarEntry::Declared(declared) if is_choice(declared) => continue,
            VarEntry::Declared(declared) => match declared.default.get() {
                Some(default) => (Some(&default.value.0), default.at),
                None => (None, entry.at),
            },
        };
        if let Some(text) = value.and_then(serde_json::Value::as_str)
            && is_secret_parameter(&name.to_ascii_lowercase())
            && is_long(text)
        {
            found.add(at, "a variable is no place for a secret");
        }
    }
}

fn is_secret_header(name: &str) -> bool {
    const ENDS: &[&str] =
        &["api-key", "apikey", "api_key", "-token", "-secret", "-password", "authorization"];
    name == "token" || name == "cookie" || ENDS.iter().any(|end| name.ends_with(end))
}

fn is_secret_parameter(name: &str) -> bool {
    const EXACT: &[&str] =
        &["apikey", "auth", "password", "passwd", "secret", "signature", "token"];
    const ENDS: &[&str] = &[
        "access_token",
        "api_key",
        "api-key",
        "auth_token",
        "client_secret",
        "private_key",
        "refresh_token",
        "_password",
        "_secret",
    ];
    EXACT.contains(&name) || ENDS.iter().any(|end| name.ends_with(end))
}

/// How a provider's credentials begin, of which characters they go on, and at least how long.
struct Look {
    prefix: &'static str,
    rest: fn(u8) -> bool,
    at_least: usize,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn is_jwt(byte: u8) -> bool {
    is_token(byte) || byte == b'.'
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// From the providers' own documentation of their tokens' formats.
const LOOKS: &[Look] = &[
    Look { prefix: "AKIA", rest: is_word, at_least: 16 },
    Look { prefix: "AIza", rest: is_token, at_least: 35 },
    Look { prefix: "SG.", rest: is_jwt, at_least: 60 },
    Look { prefix: "eyJ", rest: is_jwt, at_least: 60 },
    Look { prefix: "ghp_", rest: is_word, at_least: 36 },
    Look { prefix: "ghs_", rest: is_word, at_least: 36 },
    Look { prefix: "github_pat_", rest: is_token, at_least: 60 },
    Look { prefix: "glpat-", rest: is_token, at_least: 20 },
    Look { prefix: "npm_", rest: is_word, at_least: 36 },
    Look { prefix: "rk_live_", rest: is_word, at_least: 16 },
    Look { prefix: "shpat_", rest: is_word, at_least: 32 },
    Look { prefix: "shpss_", rest: is_word, at_least: 32 },
    Look { prefix: "sk-ant-", rest: is_token, at_least: 32 },
    Look { prefix: "sk_live_", rest: is_word, at_least: 16 },
    Look { prefix: "sk_test_", rest: is_word, at_least: 16 },
    Look { prefix: "whsec_", rest: is_base64, at_least: 24 },
    Look { prefix: "xoxb-", rest: is_token, at_least: 24 },
    Look { prefix: "xoxp-", rest: is_token, at_least: 24 },
];

/// What looks like a credential, wherever a word of a text begins: bytes, in order.
pub fn by_look(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut is_within_a_word = false;
    for (start, byte) in bytes.iter().enumerate() {
        let begins = is_token(*byte) && !is_within_a_word;
        is_within_a_word = is_token(*byte);
        let looks = LOOKS.iter().filter(|_| begins);
        found.extend(looks.filter_map(|look| {
            let rest = bytes[start..].strip_prefix(look.prefix.as_bytes())?;
            let length = rest.iter().take_while(|byte| (look.rest)(**byte)).count();
            (length >= look.at_least).then_some(start..start + look.prefix.len() + length)
        }));
    }
    found.extend(private_keys(text));
    found.extend(in_urls(text));
    found.sort_by_key(|range| range.start);
    found
}

/// PEM, from one line of dashes to the other.
fn private_keys(text: &str) -> Vec<Range<usize>> {
    const MARK: &str = "PRIVATE KEY-----";
    let begins = text.match_indices("-----BEGIN ");
    let ranges = begins.filter_map(|(start, begin)| {
        let head = text[start + begin.len()..].lines().next()?;
        head.contains(MARK).then_some(())?;
        let rest = &text[start + begin.len()..];
        let end = rest.find("-----END ").map_or(rest.len(), |end| {
            end + rest[end..].find(MARK).map_or(0, |mark| mark + MARK.len())
        });
        Some(start..start + begin.len() + end)
    });
    ranges.collect()
}

/// `https://user:password@host`, unless the password is a template.
fn in_urls(text: &str) -> Vec<Range<usize>> {
    let ranges = text.match_indices("://").filter_map(|(at, mark)| {
        let start = at + mark.len();
        let rest = &text[start..];
        let end = rest.find(|c: char| c.is_whitespace() || "/?#\"'`<>{}[]()".contains(c));
        let authority = &rest[..end.unwrap_or(rest.len())];
        let (user, _) = authority.rsplit_once('@')?;
        let (name, password) = user.split_once(':')?;
        (!name.is_empty() && !password.is_empty()).then_some(start..start + user.len())
    });
    ranges.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(text: &str) -> Vec<&str> {
        by_look(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn credentials_are_known_by_their_look() {
        // Put together here, so that no scanner of repositories takes them for real ones.
        let long = "0123456789abcdefghij0123456789ABCDEFGHIJ";
        for prefix in ["AKIA", "AIza", "ghp_", "glpat-", "shpat_", "sk_live_", "xoxb-", "whsec_"] {
            let token = format!("{prefix}{long}");
            let text = format!("# was {token}\nx = '{token}'");
            assert_eq!(looks(&text), [&token, &token], "{prefix}");
        }
        let url = "url = \"https://bob:hunter2@erp.example/x\"";
        assert_eq!(looks(url), ["bob:hunter2"]);
        let key = format!("x = '''\n-----BEGIN {0}-----\nabc\n-----END {0}-----'''", "PRIVATE KEY");
        assert_eq!(looks(&key).len(), 1);
        assert!(looks(&key)[0].ends_with("KEY-----"));
    }

    #[test]
    fn what_only_resembles_one_is_left_alone() {
        for text in [
            "strip = \"whsec_\"",
            "sk_live_ is how they begin",
            "https://{{ vars.user }}:{{ vars.password }}@x",
            "https://a.example/b:c@d",
            "task_sk_live_0123456789abcdef0123",
            "eyJ is base64 for {\"",
            "mailto://a@b",
            "-----BEGIN CERTIFICATE-----",
        ] {
            assert_eq!(looks(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn names_say_what_takes_a_secret() {
        for name in ["authorization", "x-api-key", "private-token", "cookie"] {
            assert!(is_secret_header(name), "{name}");
        }
        for name in ["accept", "x-api-version", "x-token-type", "content-type"] {
            assert!(!is_secret_header(name), "{name}");
        }
        for name in ["access_token", "api_key", "token", "client_secret"] {
            assert!(is_secret_parameter(name), "{name}");
        }
        for name in ["token_type", "page_token", "key", "author", "secret_name"] {
            assert!(!is_secret_parameter(name), "{name}");
        }
    }
}
