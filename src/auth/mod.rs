//! Credentials for polls and destinations; one token cache.
//!
//! What it promises:
//!
//! - A token is refreshed by one request at a time ([`Authenticator::apply`] of everybody else goes on
//!   with the old token while that is valid, and waits for the new one otherwise), at 80 % of its life.
//! - A rotated refresh token is durable in the bus before the access token that came with it is used.
//! - A signature is made for the request that carries it, at the time it is sent.
//! - What is stored is encrypted under a key of the operator's, where there is one ([`Vault`]).
//! - After a 401 only the credential that the refused request carried is forgotten, so a newer one
//!   that somebody else fetched meanwhile stays.
//! - No token, password or client secret is in a message, a log line or a `Debug` view.

mod answer;
mod authenticator;
mod code;
mod credential;
mod login;
mod oauth2;
mod sign;
mod stored;
mod vault;

pub use authenticator::{AuthError, Authenticator, LoginState, Principal, Resealed};
pub use code::{Begun, Redirected};
pub use credential::Carried;
pub use vault::Vault;
