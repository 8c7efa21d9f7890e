//! `[auth.NAME]`: credentials for polls and destinations.

use super::{
    collections::Pairs,
    kinds::{Expression, Plain},
    table::{At, choice, table},
};

table! {
    /// Credentials for polls and destinations.
    pub struct AuthDef "[auth.NAME]" {
        /// How the request carries them.
        kind "type": AuthType, required;
        /// `bearer`: the token.
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
        /// `oauth2`: what the token may do.
        scopes "scopes": Vec<At<Plain>>;
        /// `oauth2`: further form fields of the token request, such as `audience`.
        params "params": Pairs<Expression>;
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
    } later ["login", "jwt", "hmac", "sigv4", "mtls"]
}

choice! {
    /// How a token is got.
    pub enum GrantDef {
        /// With the client's own credentials.
        ClientCredentials "client_credentials",
        /// With a refresh token.
        RefreshToken "refresh_token",
    } later ["authorization_code", "jwt_bearer"]
}

choice! {
    /// How the client proves itself.
    pub enum ClientAuthDef {
        /// In the `Authorization` header.
        Basic "basic",
        /// In the form.
        Body "body",
    } later ["private_key_jwt"]
}

/// The keys that a type needs, and those it may have besides.
pub fn keys_of(kind: AuthType) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        AuthType::Bearer => (&["token"], &[]),
        AuthType::Basic => (&["user"], &["password"]),
        AuthType::Header | AuthType::Query => (&["name", "value"], &[]),
        AuthType::OAuth2 => (
            &["grant", "token_url", "client_id"],
            &["client_auth", "client_secret", "refresh_token", "scopes", "params"],
        ),
    }
}
