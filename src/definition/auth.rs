//! `[auth.NAME]`: credentials for polls and destinations.

use std::time::Duration;

use toml::de::DeValue;

use super::{
    collections::{Fields, Pairs, TreeDef},
    kinds::{Expression, Plain, Span, expression, mistyped},
    poll::MethodDef,
    table::{At, Kind, Node, Reader, Shape, choice, table},
    verify::EncodingDef,
};

table! {
    /// Credentials for polls and destinations.
    pub struct AuthDef "[auth.NAME]" {
        /// How the request carries them.
        kind "type": AuthType, required;
        /// `bearer`: the token. `login`, `oauth2`: where the answer has it, such as `$.access_token`.
        token "token": Expression;
        /// `basic`: the user's name.
        user "user": Expression;
        /// `basic`: the password; may be empty.
        password "password": Expression;
        /// `header`, `query`: the header's or parameter's name.
        name "name": Plain;
        /// `header`, `query`: its value.
        value "value": Expression;
        /// `oauth2`: how a token is got.
        grant "grant": GrantDef;
        /// `oauth2`: how the client proves itself to the token's URL.
        client_auth "client_auth": ClientAuthDef = "\"basic\"";
        /// `oauth2`: where tokens come from.
        token_url "token_url": Expression;
        /// `oauth2`: the client's identifier.
        client_id "client_id": Expression;
        /// `oauth2`: the client's secret.
        client_secret "client_secret": Expression;
        /// `oauth2` with `refresh_token`: the first refresh token; later ones are kept in state.
        refresh_token "refresh_token": Expression;
        /// `oauth2` with `authorization_code`: the page that a person opens.
        authorize_url "authorize_url": Expression;
        /// `oauth2` with `authorization_code`: further parameters of that page, such as `access_type`.
        authorize_params "authorize_params": Pairs<Expression>;
        /// `oauth2` with `authorization_code`: who must have answered (RFC 9207).
        issuer "issuer": Expression;
        /// `oauth2`: what the token may do.
        scopes "scopes": Vec<At<Plain>>;
        /// `oauth2`: further form fields of the token request, such as `audience`.
        params "params": Pairs<Expression>;
        /// `login`: the request that is answered with a token.
        request "request": LoginRequestDef;
        /// `jwt`, and `oauth2` with `jwt_bearer`: the token that is signed here.
        jwt "jwt": JwtDef;
        /// `oauth2` with `private_key_jwt`: the token that proves who the client is. `iss`, `sub`, `aud` and `jti` are filled in.
        client_jwt "client_jwt": JwtDef;
        /// `hmac`: what makes the signature.
        algorithm "algorithm": HmacDef = "\"hmac-sha256\"";
        /// `hmac`: the key; a table where its text has to be decoded.
        key "key": KeyEntry;
        /// `hmac`: what is signed, a template of `method`, `url`, `host`, `path`, `query`, `sorted_query`, `request.headers['x']`, `body`, `body_sha256`, `timestamp` and `nonce`.
        signed "signed": Expression;
        /// `hmac`: how `timestamp` is written: `s`, `ms`, `rfc3339`, `http`, or a strftime pattern in UTC.
        timestamp "timestamp": Plain = "\"s\"";
        /// `hmac`: how `signature` is written.
        encode "encode": EncodingDef = "\"hex\"";
        /// `hmac`: headers that are set, with `signature` besides what `signed` sees.
        headers "headers": Pairs<Expression>;
        /// `hmac`: query parameters that are added, with `signature` besides what `signed` sees.
        query "query": Pairs<Expression>;
        /// `sigv4`: the access key's identifier.
        access_key "access_key": Expression;
        /// `sigv4`: the secret access key.
        secret_key "secret_key": Expression;
        /// `sigv4`: the session's token, of temporary credentials.
        session_token "session_token": Expression;
        /// `sigv4`: the region, such as `eu-central-1`.
        region "region": Expression;
        /// `sigv4`: the service, such as `execute-api`.
        service "service": Expression;
        /// `mtls`: the client certificate in PEM, with those that lead to its root.
        certificate "certificate": Expression;
        /// `mtls`: its private key in PEM.
        private_key "private_key": Expression;
        /// `mtls`: the root in PEM that the peer's certificate must lead to, where it is not a public one.
        ca "ca": Expression;
        /// `login`, `oauth2`, `jwt`: how requests carry the token.
        placed "as": PlaceDef = "\"bearer\"";
        /// `login`, `oauth2`: how long the token lives: a duration, or where the answer says it, in seconds or as a time.
        ttl "ttl": TtlDef;
        /// All but `mtls`: the `mtls` table whose client certificate requests are made with, those for tokens too.
        identity "identity": Plain;
    }
}

table! {
    /// The request that is answered with a token.
    pub struct LoginRequestDef "[auth.NAME.request]" {
        /// The HTTP method.
        method "method": MethodDef = "\"POST\"";
        /// Appended to the source's base; a whole URL stands for itself.
        path "path": Expression, required;
        /// Query parameters.
        query "query": Pairs<Expression>;
        /// Headers.
        headers "headers": Pairs<Expression>;
        /// A JSON body.
        body "body": TreeDef;
        /// A form as the body.
        form "form": Pairs<Expression>;
        /// Credentials of this request: another `[auth.NAME]` table, such as a `jwt`.
        auth "auth": Plain;
    }
}

table! {
    /// A JSON Web Token that is signed here.
    pub struct JwtDef "[auth.NAME.jwt]" {
        /// How it is signed.
        algorithm "algorithm": JwtAlgorithmDef, required;
        /// The key: a private one in PEM for `RS256` and `ES256`; a table where its text has to be decoded.
        key "key": KeyEntry, required;
        /// Further fields of the token's header, such as `kid`.
        header "header": Fields;
        /// What it says. `iat` and `exp` are filled in.
        claims "claims": Fields;
        /// From `iat` to `exp`.
        ttl "ttl": Span = "\"5m\"";
    }
}

table! {
    /// From a secret's text to a key.
    pub struct AuthKeyDef "[auth.NAME.key]" {
        /// The secret.
        secret "secret": Expression, required;
        /// A prefix that is cut off first.
        strip "strip": Plain;
        /// How the rest encodes the key.
        decode "decode": EncodingDef = "\"raw\"";
    }
}

table! {
    /// How requests carry a token; one of `header`, `query` and `cookie`.
    pub struct PlaceTableDef "[auth.NAME.as]" {
        /// The header's name.
        header "header": Plain;
        /// The header's value, such as `Token {{ token }}`; without it the token alone.
        value "value": Expression;
        /// The query parameter's name.
        query "query": Plain;
        /// The cookie's name.
        cookie "cookie": Plain;
    }
}

choice! {
    /// How a request carries credentials.
    pub enum AuthType {
        /// `Authorization: Bearer TOKEN`.
        Bearer "bearer",
        /// `Authorization: Basic`, user and password.
        Basic "basic",
        /// A header.
        Header "header",
        /// A query parameter.
        Query "query",
        /// A token that is got and renewed.
        OAuth2 "oauth2",
        /// A session's token, from a request of your own making.
        Login "login",
        /// A token that is signed here.
        Jwt "jwt",
        /// A signature over each request.
        Hmac "hmac",
        /// AWS Signature Version 4.
        SigV4 "sigv4",
        /// A client certificate.
        Mtls "mtls",
    }
}

choice! {
    /// How a token is got.
    pub enum GrantDef {
        /// With the client's own credentials.
        ClientCredentials "client_credentials",
        /// With a refresh token.
        RefreshToken "refresh_token",
        /// With a token that is signed here.
        JwtBearer "jwt_bearer",
        /// By a person, with `tenon auth login`.
        AuthorizationCode "authorization_code",
    }
}

choice! {
    /// How the client proves itself.
    pub enum ClientAuthDef {
        /// In the `Authorization` header.
        Basic "basic",
        /// In the form.
        Body "body",
        /// By a token that is signed here.
        PrivateKeyJwt "private_key_jwt",
    }
}

choice! {
    /// How a JSON Web Token is signed.
    pub enum JwtAlgorithmDef {
        /// HMAC with SHA-256.
        Hs256 "HS256",
        /// HMAC with SHA-384.
        Hs384 "HS384",
        /// HMAC with SHA-512.
        Hs512 "HS512",
        /// RSA with SHA-256.
        Rs256 "RS256",
        /// ECDSA with P-256 and SHA-256.
        Es256 "ES256",
    }
}

choice! {
    /// What makes the signature of a request.
    pub enum HmacDef {
        /// HMAC with SHA-256.
        Sha256 "hmac-sha256",
        /// HMAC with SHA-1.
        Sha1 "hmac-sha1",
        /// HMAC with SHA-512.
        Sha512 "hmac-sha512",
    }
}

/// A key: the secret itself, or a table that says how its text becomes a key.
#[derive(Debug)]
pub enum KeyEntry {
    /// The text's bytes.
    Value(Expression),
    /// Cut and decoded first.
    Table(Box<AuthKeyDef>),
}

impl Kind for KeyEntry {
    const SHAPE: Shape = Shape::Either(&Shape::Expression, &AuthKeyDef::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(text) => Some(Self::Value(expression(text, node, reader))),
            DeValue::Table(_) => {
                AuthKeyDef::read(node, reader).map(|table| Self::Table(Box::new(table)))
            }
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}

/// `as`: `"bearer"`, or a table.
#[derive(Debug)]
pub enum PlaceDef {
    /// `Authorization: Bearer TOKEN`.
    Bearer,
    /// Elsewhere.
    Table(Box<PlaceTableDef>),
}

impl Kind for PlaceDef {
    const SHAPE: Shape = Shape::WordOr("bearer", &PlaceTableDef::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(text) if *text == "bearer" => Some(Self::Bearer),
            DeValue::Table(_) => {
                PlaceTableDef::read(node, reader).map(|table| Self::Table(Box::new(table)))
            }
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}

/// `ttl`: a duration, or where the answer says it.
#[derive(Debug)]
pub enum TtlDef {
    /// So long.
    For(Duration),
    /// A path or template over the answer.
    Said(Expression),
}

impl Kind for TtlDef {
    const SHAPE: Shape = Shape::Either(&Shape::Duration, &Shape::Expression);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(text)
                if text.starts_with('$') || text.contains("{{") || text.contains("{%") =>
            {
                Some(Self::Said(expression(text, node, reader)))
            }
            _ => Span::read(node, reader).map(|span| Self::For(span.0)),
        }
    }
}

/// The keys that a type needs, and those it may have besides.
pub fn keys_of(kind: AuthType) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        AuthType::Bearer => (&["token"], &["identity"]),
        AuthType::Basic => (&["user"], &["password", "identity"]),
        AuthType::Header | AuthType::Query => (&["name", "value"], &["identity"]),
        AuthType::OAuth2 => (
            &["grant", "token_url"],
            &[
                "client_id",
                "client_auth",
                "client_secret",
                "refresh_token",
                "authorize_url",
                "authorize_params",
                "issuer",
                "scopes",
                "params",
                "jwt",
                "client_jwt",
                "token",
                "ttl",
                "as",
                "identity",
            ],
        ),
        AuthType::Login => (&["request", "token"], &["ttl", "as", "identity"]),
        AuthType::Jwt => (&["jwt"], &["as", "identity"]),
        AuthType::Hmac => (
            &["key", "signed"],
            &["algorithm", "timestamp", "encode", "headers", "query", "identity"],
        ),
        AuthType::SigV4 => {
            (&["access_key", "secret_key", "region", "service"], &["session_token", "identity"])
        }
        AuthType::Mtls => (&["certificate", "private_key"], &["ca"]),
    }
}

/// The keys that only one grant of `oauth2` uses, and those it needs.
pub fn grant_keys(grant: GrantDef) -> (&'static [&'static str], &'static [&'static str]) {
    match grant {
        GrantDef::ClientCredentials => (&["client_id"], &[]),
        GrantDef::RefreshToken => (&["client_id", "refresh_token"], &[]),
        GrantDef::JwtBearer => (&["jwt"], &["client_id"]),
        GrantDef::AuthorizationCode => {
            (&["client_id", "authorize_url"], &["authorize_params", "issuer"])
        }
    }
}
