//! Keys: from a secret's text to what a signature is checked with.

use std::fmt;

use ring::{digest, hmac};
use zeroize::Zeroizing;

use super::{public::PublicKey, verify::decode};
use crate::{
    plan::{Algorithm, Encoding, SignedPart, VerifyPlan},
    world::{Secret, Timestamp},
};

/// A secret, ready to verify with.
pub struct Key {
    not_after: Option<Timestamp>,
    pub(super) material: Material,
    /// What the scheme makes of the secret's text, where it is itself part of what is signed.
    pub(super) text: Option<Zeroizing<Vec<u8>>>,
}

pub(super) enum Material {
    Hmac(hmac::Key),
    /// SHA-256 of the token, or of `user:password`.
    Digest([u8; 32]),
    Public(PublicKey),
    /// The secret is no key by itself: it is hashed along, or of an algorithm that a token names.
    Text,
}

/// Why a secret cannot be used. Such a secret verifies nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// It is unset, or nothing remains after `strip` and `decode`.
    Empty,
    /// It does not decode as `decode` says.
    Undecodable,
    /// It is no public key of the kind that the scheme wants.
    NotAKey,
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the secret is unset or empty",
            Self::Undecodable => "the secret does not decode as the scheme says",
            Self::NotAKey => "the secret is no public key of the kind that the scheme wants",
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Key {
    /// A key for the plan's scheme. `user` is the name that goes with it under `basic`.
    pub fn prepare(
        plan: &VerifyPlan,
        secret: &Secret,
        user: Option<&Secret>,
        not_after: Option<Timestamp>,
    ) -> Result<Self, KeyProblem> {
        let bytes = key_bytes(plan, secret)?;
        let material = match plan.algorithm {
            // The keys are fetched; the secret is a part of what is signed.
            _ if plan.keys.is_some() => Material::Text,
            Algorithm::HmacSha1 => hmac_key(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &bytes),
            Algorithm::HmacSha256 => hmac_key(hmac::HMAC_SHA256, &bytes),
            Algorithm::HmacSha512 => hmac_key(hmac::HMAC_SHA512, &bytes),
            Algorithm::Basic => {
                digest_of(&[user.map_or("", Secret::expose).as_bytes(), b":", &bytes])
            }
            Algorithm::Token | Algorithm::Mtls | Algorithm::None => digest_of(&[&bytes]),
            Algorithm::Jwt if is_symmetric(plan) => Material::Text,
            Algorithm::Sha256Concat => Material::Text,
            _ => Material::Public(public_key(plan, &bytes).ok_or(KeyProblem::NotAKey)?),
        };
        let is_text = matches!(material, Material::Text);
        let text = is_text || plan.signed.contains(&SignedPart::Secret);
        Ok(Self { not_after, material, text: text.then_some(bytes) })
    }

    /// Whether the secret may still be used. Its last instant is `not_after` itself, to the
    /// millisecond: an overlap ends when the file says, not when somebody cleans up.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.not_after.is_none_or(|last| now <= last)
    }

    /// The secret's own bytes, where they are part of what is signed.
    pub(super) fn secret(&self) -> &[u8] {
        self.text.as_ref().map_or(&[], |text| text.as_slice())
    }
}

fn is_symmetric(plan: &VerifyPlan) -> bool {
    plan.jwt.as_ref().is_some_and(|jwt| jwt.algorithms.iter().all(|a| a.is_symmetric()))
}

fn public_key(plan: &VerifyPlan, bytes: &[u8]) -> Option<PublicKey> {
    if plan.key.decode == Encoding::Pem {
        return PublicKey::of_pem(std::str::from_utf8(bytes).ok()?);
    }
    PublicKey::of_bytes(plan.algorithm, bytes)
}

/// What the scheme makes of the secret's text; not empty.
pub(super) fn key_bytes(
    plan: &VerifyPlan,
    secret: &Secret,
) -> Result<Zeroizing<Vec<u8>>, KeyProblem> {
    let text = secret.expose();
    let text = plan.key.strip.as_deref().and_then(|s| text.strip_prefix(s)).unwrap_or(text);
    let bytes = decode(plan.key.decode, text).ok_or(KeyProblem::Undecodable)?;
    if bytes.is_empty() { Err(KeyProblem::Empty) } else { Ok(Zeroizing::new(bytes)) }
}

fn hmac_key(algorithm: hmac::Algorithm, bytes: &[u8]) -> Material {
    Material::Hmac(hmac::Key::new(algorithm, bytes))
}

fn digest_of(parts: &[&[u8]]) -> Material {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    Material::Digest(hash)
}
