//! Credentials, from a security scheme of an OpenAPI document.

use serde_json::Value;

use super::{Evidence, Guess};

/// An `[auth.NAME]`: its keys with their values, in order. A value that begins with `SECRET_` stands
/// for the secret of that name, without the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthGuess {
    /// Keys and texts.
    pub keys: Vec<(&'static str, AuthValue)>,
}

/// A value of an `[auth.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthValue {
    /// As it stands.
    Text(String),
    /// The secret with this ending: `TOKEN`.
    Secret(&'static str),
    /// A list.
    List(Vec<String>),
}

pub(super) fn auth(evidence: &Evidence) -> Guess<Option<AuthGuess>> {
    let Some(scheme) = &evidence.security else {
        return Guess::look(None, "nothing says how requests prove who asks");
    };
    let text = |pointer: &str| scheme.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let fixed = |text: &str| AuthValue::Text(text.to_owned());
    let guess = |keys| Some(AuthGuess { keys });
    let bearer = || guess(vec![("type", fixed("bearer")), ("token", AuthValue::Secret("TOKEN"))]);
    match (text("/type"), text("/scheme").to_ascii_lowercase().as_str()) {
        ("http", "bearer") => Guess::sure(bearer(), "a bearer token, as the document says"),
        ("http", "basic") => Guess::sure(
            guess(vec![
                ("type", fixed("basic")),
                ("user", AuthValue::Secret("USER")),
                ("password", AuthValue::Secret("PASSWORD")),
            ]),
            "user and password, as the document says",
        ),
        ("apiKey", _) if matches!(text("/in"), "header" | "query") => {
            let keys = vec![
                ("type", fixed(text("/in"))),
                ("name", fixed(text("/name"))),
                ("value", AuthValue::Secret("KEY")),
            ];
            Guess::sure(guess(keys), "a key, where the document says")
        }
        ("oauth2", _) => oauth2(scheme, &evidence.scopes),
        ("openIdConnect", _) => Guess::look(bearer(), "OpenID Connect: who gives the tokens?"),
        (other, _) => Guess::look(
            bearer(),
            format!(
                "the document says `{other}`, which has no counterpart here; a bearer token stands in"
            ),
        ),
    }
}

fn oauth2(scheme: &Value, scopes: &[String]) -> Guess<Option<AuthGuess>> {
    let flow = |name: &str| scheme.pointer(&format!("/flows/{name}"));
    let (grant, flow, is_sure) = match (flow("clientCredentials"), flow("authorizationCode")) {
        (Some(flow), _) => ("client_credentials", flow, true),
        (None, Some(flow)) => ("refresh_token", flow, false),
        (None, None) => {
            let keys = vec![
                ("type", AuthValue::Text("bearer".to_owned())),
                ("token", AuthValue::Secret("TOKEN")),
            ];
            let why = "OAuth without a flow for machines; a bearer token stands in";
            return Guess::look(Some(AuthGuess { keys }), why);
        }
    };
    let url = flow.get("tokenUrl").and_then(Value::as_str).unwrap_or_default();
    let is_whole = url.starts_with("http");
    let url = if is_whole { url } else { "https://login.example/token" };
    let mut keys = vec![
        ("type", AuthValue::Text("oauth2".to_owned())),
        ("grant", AuthValue::Text(grant.to_owned())),
        ("token_url", AuthValue::Text(url.to_owned())),
        ("client_id", AuthValue::Secret("CLIENT_ID")),
        ("client_secret", AuthValue::Secret("CLIENT_SECRET")),
    ];
    if grant == "refresh_token" {
        keys.push(("refresh_token", AuthValue::Secret("REFRESH_TOKEN")));
    }
    if !scopes.is_empty() {
        keys.push(("scopes", AuthValue::List(scopes.to_vec())));
    }
    let why = match (is_whole, is_sure) {
        (true, true) => "client credentials, as the document says",
        (true, false) => "OAuth by a person's consent: the first refresh token comes from there",
        (false, _) => "OAuth, as the document says; its token URL is not a whole one",
    };
    Guess { value: Some(AuthGuess { keys }), why: why.to_owned(), is_sure: is_sure && is_whole }
}
