//! Keys for what is stored: AES-256-GCM under a key of the operator's, on ring.
//!
//! Each record has a key of its own, derived by HKDF-SHA-256 from the operator's key and a random
//! salt, so no nonce is ever used twice. Where a record belongs is authenticated along with it: one
//! that is moved to another place does not open. The operator's keys are looked up when they are
//! used; the first seals, all of them open, so a key is rotated by putting a new one before it.

use std::{fmt, sync::Arc};

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
    hkdf::{HKDF_SHA256, Salt},
};
use zeroize::Zeroizing;

use crate::world::{Entropy, Secrets};

/// Of a key, and of a salt.
const KEY_BYTES: usize = 32;
/// What names a key in a record.
const ID_BYTES: usize = 8;

/// Seals and opens records. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    /// The secrets that hold the keys; the first seals.
    names: Vec<String>,
    secrets: Arc<dyn Secrets>,
    entropy: Arc<dyn Entropy>,
}

/// Why a record does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Locked {
    /// It was sealed with a key that is not among the operator's.
    OtherKey(String),
    /// It is cut, changed, or belongs elsewhere.
    Damaged,
}

struct Key {
    id: [u8; ID_BYTES],
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl Vault {
    /// A vault whose keys are the secrets of these names: 32 bytes in base64 or hexadecimal. Refuses
    /// a name that is not set, and what is no key; the error shows neither.
    pub fn open(
        names: Vec<String>,
        secrets: Arc<dyn Secrets>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, String> {
        let vault = Self { names, secrets, entropy };
        vault.names.iter().try_for_each(|name| vault.key(name).map(drop))?;
        Ok(vault)
    }

    fn key(&self, name: &str) -> Result<Key, String> {
        let secret = self.secrets.get(name).ok_or_else(|| {
            format!("the key {name} of [tokens] is set neither in the folder of secrets nor in the environment")
        })?;
        let text = secret.expose().trim().as_bytes();
        let decoded = HEXLOWER_PERMISSIVE.decode(text).or_else(|_| BASE64.decode(text));
        let decoded = Zeroizing::new(decoded.unwrap_or_default());
        let bytes: [u8; KEY_BYTES] = decoded.as_slice().try_into().map_err(|_| {
            format!("the key {name} of [tokens] is not 32 bytes in base64 or hexadecimal: `openssl rand -base64 32` makes one")
        })?;
        let mut id = [0; ID_BYTES];
        let hash = digest(&SHA256, &[b"tenon token key ", bytes.as_slice()].concat());
        id.copy_from_slice(&hash.as_ref()[..ID_BYTES]);
        Ok(Key { id, bytes: Zeroizing::new(bytes) })
    }

    /// Whether a record is sealed with the key that seals now.
    pub(super) fn is_current(&self, sealed: &[u8]) -> bool {
        let current = self.names.first().and_then(|name| self.key(name).ok());
        current.is_some_and(|key| sealed.starts_with(&key.id))
    }

    /// The key's id, a salt, and the text encrypted; `place` is authenticated with it.
    pub(super) fn seal(&self, place: &[u8], text: &[u8]) -> Result<Vec<u8>, String> {
        let key = self.key(self.names.first().ok_or("there is no key")?)?;
        let salt: Vec<u8> =
            (0..KEY_BYTES / 8).flat_map(|_| self.entropy.next_u64().to_le_bytes()).collect();
        let mut sealed = Zeroizing::new(text.to_vec());
        let broken = |_| "the key does not seal".to_owned();
        record_key(&key, &salt)
            .and_then(|it| it.seal_in_place_append_tag(nonce(), Aad::from(place), &mut *sealed))
            .map_err(broken)?;
        Ok([key.id.as_slice(), &salt, &sealed].concat())
    }

    /// The text of a sealed record.
    pub(super) fn unseal(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Locked> {
        let (id, rest) = sealed.split_at_checked(ID_BYTES).ok_or(Locked::Damaged)?;
        let (salt, text) = rest.split_at_checked(KEY_BYTES).ok_or(Locked::Damaged)?;
        let mut keys = self.names.iter().filter_map(|name| self.key(name).ok());
        let key = keys.find(|key| key.id == id);
        let key = key.ok_or_else(|| Locked::OtherKey(HEXLOWER.encode(id)))?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = record_key(&key, salt)
            .and_then(|it| {
                it.open_in_place(nonce(), Aad::from(place), &mut text).map(|it| it.len())
            })
            .map_err(|_| Locked::Damaged)?;
        text.truncate(length);
        Ok(text)
    }
}

/// The key of one record, which no other has.
fn record_key(key: &Key, salt: &[u8]) -> Result<LessSafeKey, ring::error::Unspecified> {
    let derived = Salt::new(HKDF_SHA256, salt).extract(key.bytes.as_slice());
    let info: [&[u8]; 1] = [b"tenon tokens at rest, version 2"];
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    derived.expand(&info, &AES_256_GCM)?.fill(bytes.as_mut_slice())?;
    UnboundKey::new(&AES_256_GCM, bytes.as_slice()).map(LessSafeKey::new)
}

/// One text a key: there is nothing to count.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vault").field(&self.names).finish()
    }
}
