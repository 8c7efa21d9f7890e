//! From a secret's text to a key.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

use crate::{
    auth::{AuthError, credential::look_up},
    map::Env,
    plan::{Encoding, SigningKey},
};

/// The key's bytes. An empty key would sign what anybody could sign, so it is refused.
pub(super) fn bytes(key: &SigningKey, env: &Env) -> Result<Zeroizing<Vec<u8>>, AuthError> {
    let secret = look_up(&key.secret, env)?;
    let text = secret.expose();
    let text = match &key.strip {
        Some(prefix) => text.strip_prefix(prefix.as_str()).unwrap_or(text),
        None => text,
    };
    let held = |what: &str| AuthError::Held(format!("{}: {what}", key.secret.place().path));
    let bytes = decoded(text, key.decode).ok_or_else(|| held("the key does not decode"))?;
    if bytes.is_empty() {
        return Err(held("the key is empty"));
    }
    Ok(Zeroizing::new(bytes))
}

fn decoded(text: &str, encoding: Encoding) -> Option<Vec<u8>> {
    let trimmed = text.trim();
    let bare = trimmed.trim_end_matches('=').as_bytes();
    match encoding {
        // What takes PEM reads it by itself.
        Encoding::Raw | Encoding::Pem => Some(text.as_bytes().to_vec()),
        Encoding::Hex => HEXLOWER_PERMISSIVE.decode(trimmed.as_bytes()).ok(),
        Encoding::Base64 => {
            BASE64.decode(trimmed.as_bytes()).or_else(|_| BASE64_NOPAD.decode(bare)).ok()
        }
        Encoding::Base64Url => BASE64URL_NOPAD.decode(bare).ok(),
    }
}
