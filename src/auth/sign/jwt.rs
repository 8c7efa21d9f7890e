//! JSON Web Tokens (RFC 7519) in compact form (RFC 7515), signed on ring.
//!
//! The algorithm is the plan's and goes with the key; `iat` and `exp` follow from the moment. A field
//! that a secret gives is a text, whatever it looks like: `"478"` is never 478.

use data_encoding::BASE64URL_NOPAD;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Map, Value};

use super::{Moment, key};
use crate::{
    auth::AuthError,
    map::{Env, Tree},
    plan::{AssertionPlan, TimestampForm, TokenAlgorithm},
    world::Secret,
};

/// A token that is good from now on. `filled_in` are claims where the plan has none of that name.
pub(in crate::auth) fn token(
    plan: &AssertionPlan,
    filled_in: &[(&str, String)],
    env: &Env,
    moment: &Moment,
) -> Result<Secret, AuthError> {
    let env = moment.bound(env, &TimestampForm::Seconds);
    let mut header = Map::new();
    header.insert("alg".to_owned(), plan.algorithm.word().into());
    header.insert("typ".to_owned(), "JWT".into());
    add(&mut header, &plan.header, &env)?;
    let mut claims = Map::new();
    for (name, value) in filled_in {
        claims.insert((*name).to_owned(), value.as_str().into());
    }
    add(&mut claims, &plan.claims, &env)?;
    claims.insert("iat".to_owned(), moment.seconds().into());
    let life = i64::try_from(plan.life.as_secs()).unwrap_or(i64::MAX);
    claims.insert("exp".to_owned(), moment.seconds().saturating_add(life).into());
    let part = |fields: Map<String, Value>| {
        BASE64URL_NOPAD.encode(Value::Object(fields).to_string().as_bytes())
    };
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = signature(plan, &env, signed.as_bytes())?;
    Ok(Secret::new(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))))
}

fn add(
    fields: &mut Map<String, Value>,
    plan: &[(String, Tree)],
    env: &Env,
) -> Result<(), AuthError> {
    let held = |error: crate::map::EvalError| AuthError::Held(error.to_string());
    for (name, tree) in plan {
        let value = tree.with_secrets(env).map_err(held)?.eval(env).map_err(held)?;
        if let Some(value) = value {
            fields.insert(name.clone(), value);
        }
    }
    Ok(())
}

fn signature(plan: &AssertionPlan, env: &Env, signed: &[u8]) -> Result<Vec<u8>, AuthError> {
    let bytes = key::bytes(&plan.key, env)?;
    let by_hash = |hash| hmac::sign(&hmac::Key::new(hash, &bytes), signed).as_ref().to_vec();
    let held = |what: &str| {
        let place = &plan.key.secret.place().path;
        AuthError::Held(format!("{place}: {what} for {}", plan.algorithm.word()))
    };
    match plan.algorithm {
        TokenAlgorithm::Hs256 => Ok(by_hash(hmac::HMAC_SHA256)),
        TokenAlgorithm::Hs384 => Ok(by_hash(hmac::HMAC_SHA384)),
        TokenAlgorithm::Hs512 => Ok(by_hash(hmac::HMAC_SHA512)),
        TokenAlgorithm::Rs256 => {
            let pair = match private_key(&bytes) {
                Some(PrivateKeyDer::Pkcs8(key)) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
                Some(PrivateKeyDer::Pkcs1(key)) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
                _ => return Err(held("expected an RSA private key in PEM")),
            };
            let pair = pair.map_err(|error| held(&format!("not an RSA key that fits: {error}")))?;
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed, &mut signature)
                .map_err(|_| held("the key does not sign"))?;
            Ok(signature)
        }
        TokenAlgorithm::Es256 => {
            let random = SystemRandom::new();
            let der = match private_key(&bytes) {
                Some(PrivateKeyDer::Pkcs8(key)) => key.secret_pkcs8_der().to_vec(),
                Some(PrivateKeyDer::Sec1(key)) => pkcs8_of(key.secret_sec1_der()),
                _ => return Err(held("expected a P-256 private key in PEM")),
            };
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random)
                .map_err(|error| held(&format!("not a P-256 key that fits: {error}")))?;
            let signature =
                pair.sign(&random, signed).map_err(|_| held("the key does not sign"))?;
            Ok(signature.as_ref().to_vec())
        }
    }
}

/// A private key in PEM. Environments that take one line only have `\n` spelled out in it.
fn private_key(pem: &[u8]) -> Option<PrivateKeyDer<'static>> {
    let text = std::str::from_utf8(pem).ok()?;
    PrivateKeyDer::from_pem_slice(text.replace("\\n", "\n").as_bytes()).ok()
}

/// SEC 1 (`BEGIN EC PRIVATE KEY`) in PKCS #8's clothes (RFC 5958), the curve being P-256.
fn pkcs8_of(sec1: &[u8]) -> Vec<u8> {
    const VERSION: &[u8] = &[0x02, 0x01, 0x00];
    // AlgorithmIdentifier: id-ecPublicKey, prime256v1.
    const P256: &[u8] = &[
        0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ];
    const OCTETS: u8 = 0x04;
    const SEQUENCE: u8 = 0x30;
    let inner = [VERSION, P256, &tagged(OCTETS, sec1)].concat();
    tagged(SEQUENCE, &inner)
}

/// DER: tag, length, value.
fn tagged(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut out = vec![tag];
    match (u8::try_from(length), length.to_be_bytes()) {
        (Ok(short), _) if short < 0x80 => out.push(short),
        (Ok(byte), _) => out.extend([0x81, byte]),
        (Err(_), bytes) => out.extend([0x82, bytes[bytes.len() - 2], bytes[bytes.len() - 1]]),
    }
    out.extend_from_slice(value);
    out
}
