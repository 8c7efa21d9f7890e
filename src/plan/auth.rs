//! Credentials, planned: how requests carry them, how tokens are got, what is signed.
//!
//! [`AuthPlan::settings`] tells all of a plan by key, so that whoever compares, shows or hashes
//! credentials need not know their types.

use std::{sync::Arc, time::Duration};

use http::Method;

use super::{Encoding, RequestBody};
use crate::map::{Expr, Tree};

/// `[auth.NAME]`.
#[derive(Clone, Debug)]
pub struct AuthPlan {
    /// Unique within the connector.
    pub name: Arc<str>,
    /// How a request carries the credentials.
    pub kind: AuthKind,
    /// The client certificate that requests, those for tokens included, are made with.
    pub identity: Option<Arc<IdentityPlan>>,
}

/// How a request carries credentials.
#[derive(Clone, Debug)]
pub enum AuthKind {
    /// `Authorization: Bearer TOKEN`.
    Bearer {
        /// The token.
        token: Expr,
    },
    /// `Authorization: Basic`.
    Basic {
        /// The user's name.
        user: Expr,
        /// The password; may be empty.
        password: Expr,
    },
    /// A header.
    Header {
        /// The header's or parameter's name.
        name: String,
        /// Its value.
        value: Expr,
    },
    /// A query parameter.
    Query {
        /// The header's or parameter's name.
        name: String,
        /// Its value.
        value: Expr,
    },
    /// A token that is got and renewed.
    OAuth2(Box<OAuth2Plan>),
    /// A session's token, from a request of the file's own making.
    Login(Box<LoginPlan>),
    /// A token that is signed here.
    Jwt(Box<SignedTokenPlan>),
    /// A signature over each request.
    Hmac(Box<HmacPlan>),
    /// AWS Signature Version 4.
    SigV4(Box<SigV4Plan>),
    /// Nothing but the client certificate, which is the plan's `identity`.
    Mtls,
}

/// How a token is got.
#[derive(Clone, Debug)]
pub struct OAuth2Plan {
    /// With what.
    pub grant: Grant,
    /// How the client proves itself.
    pub client_auth: ClientAuth,
    /// Where.
    pub token_url: Expr,
    /// The client; `None` where an assertion says who asks.
    pub client_id: Option<Expr>,
    /// Its secret.
    pub client_secret: Option<Expr>,
    /// What the token may do, joined by blanks.
    pub scopes: Vec<String>,
    /// Further form fields (`audience`).
    pub params: Vec<(String, Expr)>,
    /// Where the answer has the token; `None`: `access_token`.
    pub token: Option<Expr>,
    /// How long it lives; `None`: what `expires_in` says.
    pub life: Option<Life>,
    /// How requests carry it.
    pub place: TokenPlace,
}

/// With what a token is got.
#[derive(Clone, Debug)]
pub enum Grant {
    /// With the client's own credentials.
    ClientCredentials,
    /// The first refresh token; later ones come from state.
    RefreshToken {
        /// The first refresh token.
        refresh_token: Expr,
    },
    /// With an assertion that is signed here (RFC 7523).
    JwtBearer {
        /// What it says.
        assertion: Box<AssertionPlan>,
    },
    /// By a person, once; the tokens are kept in state.
    AuthorizationCode {
        /// The page that is opened.
        authorize_url: Expr,
        /// Its further parameters.
        authorize_params: Vec<(String, Expr)>,
        /// Who must have answered.
        issuer: Option<Expr>,
    },
}

impl Grant {
    /// As written.
    pub fn word(&self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken { .. } => "refresh_token",
            Self::JwtBearer { .. } => "jwt_bearer",
            Self::AuthorizationCode { .. } => "authorization_code",
        }
    }
}

/// How a client proves itself to the token's URL.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// In the `Authorization` header.
    Basic,
    /// In the form.
    Body,
    /// By an assertion in the form (RFC 7523, 2.2).
    PrivateKeyJwt(Box<AssertionPlan>),
}

impl ClientAuth {
    /// As written.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Body => "body",
            Self::PrivateKeyJwt(_) => "private_key_jwt",
        }
    }
}

/// How long a token lives.
#[derive(Clone, Debug)]
pub enum Life {
    /// So long.
    For(Duration),
    /// What the answer says: seconds from now, or a time.
    Said(Expr),
}

/// How requests carry a token.
#[derive(Clone, Debug)]
pub enum TokenPlace {
    /// `Authorization: Bearer TOKEN`.
    Bearer,
    /// A header.
    Header {
        /// Its name.
        name: String,
        /// Its value; `None`: the token.
        value: Option<Expr>,
    },
    /// A query parameter.
    Query {
        /// Its name.
        name: String,
    },
    /// A cookie.
    Cookie {
        /// Its name.
        name: String,
    },
}

/// `type = "login"`.
#[derive(Clone, Debug)]
pub struct LoginPlan {
    /// The HTTP method.
    pub method: Method,
    /// The whole URL.
    pub url: Expr,
    /// In the order written.
    pub query: Vec<(String, Expr)>,
    /// In the order written.
    pub headers: Vec<(String, Expr)>,
    /// What is sent.
    pub body: Option<RequestBody>,
    /// With what the login itself is authenticated; never another login.
    pub auth: Option<Arc<AuthPlan>>,
    /// Where the answer has the token.
    pub token: Expr,
    /// How long it lives; `None`: an hour.
    pub life: Option<Life>,
    /// How requests carry it.
    pub place: TokenPlace,
}

/// `type = "jwt"`.
#[derive(Clone, Debug)]
pub struct SignedTokenPlan {
    /// What is signed.
    pub assertion: AssertionPlan,
    /// How requests carry it.
    pub place: TokenPlace,
}

/// A JSON Web Token that is signed here (RFC 7515, 7519).
#[derive(Clone, Debug)]
pub struct AssertionPlan {
    /// How it is signed.
    pub algorithm: TokenAlgorithm,
    /// With what.
    pub key: SigningKey,
    /// Fields of the header besides `alg` and `typ`.
    pub header: Vec<(String, Tree)>,
    /// Claims besides `iat` and `exp`.
    pub claims: Vec<(String, Tree)>,
    /// From `iat` to `exp`.
    pub life: Duration,
}

/// How a JSON Web Token is signed (RFC 7518).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
}

impl TokenAlgorithm {
    /// As in the token's header.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

/// From a secret's text to a key.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// Gives the text.
    pub secret: Expr,
    /// A prefix that is cut off first.
    pub strip: Option<String>,
    /// How the rest encodes the key.
    pub decode: Encoding,
}

/// `type = "hmac"`.
#[derive(Clone, Debug)]
pub struct HmacPlan {
    /// The hash.
    pub hash: HmacHash,
    /// With what.
    pub key: SigningKey,
    /// What is signed.
    pub signed: Expr,
    /// How `timestamp` is written.
    pub timestamp: TimestampForm,
    /// How `signature` is written.
    pub encode: Encoding,
    /// Headers that are set; they see the signature.
    pub headers: Vec<(String, Expr)>,
    /// Query parameters that are added; they see the signature.
    pub query: Vec<(String, Expr)>,
}

/// The hash of an HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HmacHash {
    /// For peers that take nothing better.
    Sha1,
    /// The usual one.
    Sha256,
    /// The long one.
    Sha512,
}

impl HmacHash {
    /// As written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sha1 => "hmac-sha1",
            Self::Sha256 => "hmac-sha256",
            Self::Sha512 => "hmac-sha512",
        }
    }
}

/// How a time is written into what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampForm {
    /// Since 1970.
    Seconds,
    /// Since 1970.
    Milliseconds,
    /// `2026-11-20T12:00:00Z`.
    Rfc3339,
    /// `Fri, 20 Nov 2026 12:00:00 GMT`, as in HTTP's `Date`.
    Http,
    /// A strftime pattern, in UTC.
    Pattern(String),
}

impl TimestampForm {
    /// As written.
    pub fn word(&self) -> &str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Rfc3339 => "rfc3339",
            Self::Http => "http",
            Self::Pattern(pattern) => pattern,
        }
    }
}

/// `type = "sigv4"`.
#[derive(Clone, Debug)]
pub struct SigV4Plan {
    /// The access key's id.
    pub access_key: Expr,
    /// The secret access key.
    pub secret_key: Expr,
    /// Of temporary credentials.
    pub session_token: Option<Expr>,
    /// `eu-central-1`.
    pub region: Expr,
    /// `execute-api`.
    pub service: Expr,
}

/// `type = "mtls"`: a client certificate.
#[derive(Clone, Debug)]
pub struct IdentityPlan {
    /// The table's name.
    pub name: Arc<str>,
    /// PEM: the certificate, then those that lead to the root.
    pub certificate: Expr,
    /// PEM.
    pub private_key: Expr,
    /// PEM: trusted for the peer's certificate in place of the machine's own roots.
    pub ca: Option<Expr>,
}

/// One setting of credentials.
#[derive(Clone, Debug)]
pub enum Setting<'p> {
    /// Evaluated at use; may hold a secret.
    Expr(&'p Expr),
    /// Settled when the file was loaded.
    Word(String),
}

/// Settings with their keys: `jwt.claims.iss`.
pub type AuthSettings<'p> = Vec<(String, Setting<'p>)>;

impl AuthKind {
    /// As written.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Bearer { .. } => "bearer",
            Self::Basic { .. } => "basic",
            Self::Header { .. } => "header",
            Self::Query { .. } => "query",
            Self::OAuth2(_) => "oauth2",
            Self::Login(_) => "login",
            Self::Jwt(_) => "jwt",
            Self::Hmac(_) => "hmac",
            Self::SigV4(_) => "sigv4",
            Self::Mtls => "mtls",
        }
    }
}

impl AuthPlan {
    /// Without a client certificate.
    pub fn new(name: impl Into<Arc<str>>, kind: AuthKind) -> Self {
        Self { name: name.into(), kind, identity: None }
    }

    /// Everything that the table says, by key, the type aside.
    pub fn settings(&self) -> AuthSettings<'_> {
        let mut all = Listed(Vec::new());
        match &self.kind {
            AuthKind::Bearer { token } => all.expr("token", token),
            AuthKind::Basic { user, password } => {
                all.expr("user", user);
                all.expr("password", password);
            }
            AuthKind::Header { name, value } | AuthKind::Query { name, value } => {
                all.word("name", name);
                all.expr("value", value);
            }
            AuthKind::OAuth2(plan) => all.oauth2(plan),
            AuthKind::Login(plan) => all.login(plan),
            AuthKind::Jwt(plan) => {
                all.assertion("jwt", &plan.assertion);
                all.place(&plan.place);
            }
            AuthKind::Hmac(plan) => all.hmac(plan),
            AuthKind::SigV4(plan) => all.sigv4(plan),
            AuthKind::Mtls => {}
        }
        if let Some(identity) = &self.identity {
            if let AuthKind::Mtls = self.kind {
                all.expr("certificate", &identity.certificate);
                all.expr("private_key", &identity.private_key);
                if let Some(ca) = &identity.ca {
                    all.expr("ca", ca);
                }
            } else {
                all.word("identity", &identity.name);
            }
        }
        all.0
    }

    /// The expressions among [`AuthPlan::settings`], and those of a certificate that is named.
    pub fn exprs(&self) -> Vec<(String, &Expr)> {
        let settings = self.settings().into_iter();
        settings
            .filter_map(|(key, setting)| match setting {
                Setting::Expr(expr) => Some((key, expr)),
                Setting::Word(_) => None,
            })
            .collect()
    }

    /// The URLs that are asked for tokens, with their keys.
    pub fn urls(&self) -> Vec<(&'static str, &Expr)> {
        match &self.kind {
            AuthKind::OAuth2(plan) => vec![("token_url", &plan.token_url)],
            AuthKind::Login(plan) => vec![("request.url", &plan.url)],
            _ => Vec::new(),
        }
    }

    /// Whether each use may replace what is stored, so that nobody but the daemon may use it.
    pub fn rotates(&self) -> bool {
        matches!(&self.kind, AuthKind::OAuth2(plan)
            if matches!(plan.grant, Grant::RefreshToken { .. } | Grant::AuthorizationCode { .. }))
    }

    /// Whether a token has to be asked for.
    pub fn is_fetched(&self) -> bool {
        matches!(self.kind, AuthKind::OAuth2(_) | AuthKind::Login(_))
    }
}

/// Settings as they are gathered.
struct Listed<'p>(AuthSettings<'p>);

impl<'p> Listed<'p> {
    fn expr(&mut self, key: &str, expr: &'p Expr) {
        self.0.push((key.to_owned(), Setting::Expr(expr)));
    }

    fn word(&mut self, key: &str, word: &str) {
        self.0.push((key.to_owned(), Setting::Word(word.to_owned())));
    }

    fn pairs(&mut self, key: &str, pairs: &'p [(String, Expr)]) {
        for (name, expr) in pairs {
            self.expr(&format!("{key}.{name}"), expr);
        }
    }

    fn fields(&mut self, key: &str, fields: &'p [(String, Tree)]) {
        for (name, tree) in fields {
            self.tree(&format!("{key}.{name}"), tree);
        }
    }

    fn tree(&mut self, key: &str, tree: &'p Tree) {
        match tree {
            Tree::Leaf(expr) => self.expr(key, expr),
            Tree::Constant(value) => self.word(key, &value.to_string()),
            Tree::Table(fields) => self.fields(key, fields),
            Tree::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.tree(&format!("{key}[{at}]"), item);
                }
            }
        }
    }

    fn key(&mut self, at: &str, key: &'p SigningKey) {
        let SigningKey { secret, strip, decode } = key;
        self.expr(at, secret);
        if let Some(strip) = strip {
            self.word(&format!("{at}.strip"), strip);
        }
        if *decode != Encoding::Raw {
            self.word(&format!("{at}.decode"), encoding(*decode));
        }
    }

    fn life(&mut self, life: Option<&'p Life>) {
        match life {
            Some(Life::For(duration)) => self.word("ttl", &format!("{duration:?}")),
            Some(Life::Said(expr)) => self.expr("ttl", expr),
            None => {}
        }
    }

    fn place(&mut self, place: &'p TokenPlace) {
        match place {
            TokenPlace::Bearer => {}
            TokenPlace::Header { name, value } => {
                self.word("as.header", name);
                if let Some(value) = value {
                    self.expr("as.value", value);
                }
            }
            TokenPlace::Query { name } => self.word("as.query", name),
            TokenPlace::Cookie { name } => self.word("as.cookie", name),
        }
    }

    fn assertion(&mut self, at: &str, plan: &'p AssertionPlan) {
        let AssertionPlan { algorithm, key, header, claims, life } = plan;
        self.word(&format!("{at}.algorithm"), algorithm.word());
        self.key(&format!("{at}.key"), key);
        self.fields(&format!("{at}.header"), header);
        self.fields(&format!("{at}.claims"), claims);
        self.word(&format!("{at}.ttl"), &format!("{life:?}"));
    }

    fn oauth2(&mut self, plan: &'p OAuth2Plan) {
        let OAuth2Plan { grant, client_auth, token_url, client_id, client_secret, .. } = plan;
        let OAuth2Plan { scopes, params, token, life, place, .. } = plan;
        self.word("grant", grant.word());
        self.word("client_auth", client_auth.word());
        self.expr("token_url", token_url);
        if let Some(id) = client_id {
            self.expr("client_id", id);
        }
        if let Some(secret) = client_secret {
            self.expr("client_secret", secret);
        }
        match grant {
            Grant::ClientCredentials => {}
            Grant::RefreshToken { refresh_token } => self.expr("refresh_token", refresh_token),
            Grant::JwtBearer { assertion } => self.assertion("jwt", assertion),
            Grant::AuthorizationCode { authorize_url, authorize_params, issuer } => {
                self.expr("authorize_url", authorize_url);
                self.pairs("authorize_params", authorize_params);
                if let Some(issuer) = issuer {
                    self.expr("issuer", issuer);
                }
            }
        }
        if let ClientAuth::PrivateKeyJwt(assertion) = client_auth {
            self.assertion("client_jwt", assertion);
        }
        for scope in scopes {
            self.word("scopes", scope);
        }
        self.pairs("params", params);
        if let Some(token) = token {
            self.expr("token", token);
        }
        self.life(life.as_ref());
        self.place(place);
    }

    fn login(&mut self, plan: &'p LoginPlan) {
        let LoginPlan { method, url, query, headers, body, auth, token, life, place } = plan;
        self.word("request.method", method.as_str());
        self.expr("request.url", url);
        self.pairs("request.query", query);
        self.pairs("request.headers", headers);
        match body {
            Some(RequestBody::Json(tree)) => self.tree("request.body", tree),
            Some(RequestBody::Text(text)) => self.expr("request.body", text),
            Some(RequestBody::Form(form)) => self.pairs("request.form", form),
            None => {}
        }
        if let Some(auth) = auth {
            self.word("request.auth", &auth.name);
        }
        self.expr("token", token);
        self.life(life.as_ref());
        self.place(place);
    }

    fn hmac(&mut self, plan: &'p HmacPlan) {
        let HmacPlan { hash, key, signed, timestamp, encode, headers, query } = plan;
        self.word("algorithm", hash.word());
        self.key("key", key);
        self.expr("signed", signed);
        self.word("timestamp", timestamp.word());
        self.word("encode", encoding(*encode));
        self.pairs("headers", headers);
        self.pairs("query", query);
    }

    fn sigv4(&mut self, plan: &'p SigV4Plan) {
        let SigV4Plan { access_key, secret_key, session_token, region, service } = plan;
        self.expr("access_key", access_key);
        self.expr("secret_key", secret_key);
        if let Some(token) = session_token {
            self.expr("session_token", token);
        }
        self.expr("region", region);
        self.expr("service", service);
    }
}

fn encoding(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Raw => "raw",
        Encoding::Hex => "hex",
        Encoding::Base64 => "base64",
        Encoding::Base64Url => "base64url",
        Encoding::Pem => "pem",
    }
}
