//! The stored kind "tokens": bus state `auth/<connector>/<auth>`.
//!
//! Encoding, version 2: one byte of version, 16 bytes of seed, one byte of protection, the rest. The
//! seed is the beginning of SHA-256 over what the file configures (the first refresh token, or the
//! client that a person logged in for). While that is the same, what is stored is its successor;
//! once a person configures something else, it is history. Protection 0: the rest is JSON. 1: it is
//! sealed, see `vault`, with the state's key and the bytes before it authenticated. Version 1 had a
//! refresh token in the clear after the seed; it is read, and written anew as version 2 at the next
//! start. A value of another version, or one that is cut, reads as none.

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::vault::{Locked, Vault};
use crate::world::{Secret, Timestamp};

const VERSION: u8 = 2;
const FIRST_VERSION: u8 = 1;
const PLAIN: u8 = 0;
const SEALED: u8 = 1;
const SEED_BYTES: usize = 16;

/// Where all of them are.
pub(super) const AREA: &str = "auth/";

/// Which configured token a stored one descends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed([u8; SEED_BYTES]);

impl Seed {
    pub(super) fn of(configured: &Secret) -> Self {
        let mut seed = [0; SEED_BYTES];
        let hash = digest(&SHA256, configured.expose().as_bytes());
        seed.copy_from_slice(&hash.as_ref()[..SEED_BYTES]);
        Self(seed)
    }
}

/// What is kept of what a token endpoint gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) refresh_token: Option<Secret>,
    /// Where there is no refresh token, or as long as the access token lives.
    pub(super) access_token: Option<Secret>,
    /// Of the access token.
    pub(super) expires_at: Option<Timestamp>,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access_token: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

/// The state's key.
pub(super) fn key(connector: &str, auth: &str) -> String {
    format!("{AREA}{connector}/{auth}")
}

pub(super) fn encode(
    key: &str,
    seed: Seed,
    kept: &Kept,
    vault: Option<&Vault>,
) -> Result<Vec<u8>, String> {
    let written = Written {
        refresh_token: kept.refresh_token.as_ref().map(|it| it.expose().into()),
        access_token: kept.access_token.as_ref().map(|it| it.expose().into()),
        expires_at: kept.expires_at,
    };
    let text = Zeroizing::new(serde_json::to_vec(&written).map_err(|error| error.to_string())?);
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&seed.0);
    bytes.push(if vault.is_some() { SEALED } else { PLAIN });
    match vault {
        None => bytes.extend_from_slice(&text),
        Some(vault) => {
            let sealed = vault.seal(&place(key, &bytes), &text)?;
            bytes.extend_from_slice(&sealed);
        }
    }
    Ok(bytes)
}

fn place(key: &str, head: &[u8]) -> Vec<u8> {
    [key.as_bytes(), &[0], head].concat()
}

/// What a record descends from, which stands in it in the clear.
pub(super) fn seed_of(bytes: &[u8]) -> Option<Seed> {
    bytes.split_first()?.1.first_chunk::<SEED_BYTES>().copied().map(Seed)
}

/// What is stored, whatever it descends from. `None`: nothing that can be read as such.
pub(super) fn decode(
    key: &str,
    bytes: &[u8],
    vault: Option<&Vault>,
) -> Result<Option<(Seed, Kept)>, Locked> {
    let Some((&version, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((seed, rest)) = rest.split_first_chunk::<SEED_BYTES>() else { return Ok(None) };
    let seed = Seed(*seed);
    if version == FIRST_VERSION {
        let token = std::str::from_utf8(rest).ok().filter(|token| !token.is_empty());
        let kept =
            |token: &str| Kept { refresh_token: Some(Secret::new(token)), ..Kept::default() };
        return Ok(token.map(|token| (seed, kept(token))));
    }
    let (VERSION, Some((&protection, rest))) = (version, rest.split_first()) else {
        return Err(Locked::Damaged);
    };
    let text = match (protection, vault) {
        (PLAIN, _) => Zeroizing::new(rest.to_vec()),
        (SEALED, Some(vault)) => vault.unseal(&place(key, &bytes[..SEED_BYTES + 2]), rest)?,
        (SEALED, None) => return Err(Locked::OtherKey(String::new())),
        _ => return Err(Locked::Damaged),
    };
    let written = serde_json::from_slice::<Written<'_>>(&text).map_err(|_| Locked::Damaged)?;
    let secret = |text: Option<std::borrow::Cow<'_, str>>| text.map(|text| Secret::new(&*text));
    let kept = Kept {
        refresh_token: secret(written.refresh_token),
        access_token: secret(written.access_token),
        expires_at: written.expires_at,
    };
    Ok(Some((seed, kept)))
}

/// How a record is protected, so that it can be told to the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// In the clear.
    Plain,
    /// With the key that seals now.
    Current,
    /// With an older one.
    Older,
}

pub(super) fn protection(bytes: &[u8], vault: Option<&Vault>) -> Protection {
    let sealed = bytes.get(SEED_BYTES + 2..).unwrap_or_default();
    match (bytes.first(), bytes.get(SEED_BYTES + 1), vault) {
        (Some(&VERSION), Some(&SEALED), Some(vault)) if vault.is_current(sealed) => {
            Protection::Current
        }
        (Some(&VERSION), Some(&SEALED), _) => Protection::Older,
        _ => Protection::Plain,
    }
}

/// Whether it is of the version before this one.
pub(super) fn is_of_first_version(bytes: &[u8]) -> bool {
    bytes.first() == Some(&FIRST_VERSION)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    use super::{Kept, Protection, Seed, decode, encode, protection};
    use crate::{
        auth::vault::{Locked, Vault},
        world::{ScriptedEntropy, Secret, StaticSecrets, Timestamp},
    };

    const KEY: &str = "auth/shop/erp";
    const KEYS: [(&str, &str); 3] = [
        ("OLD", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ("NEW", "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"),
        ("SHORT", "AAEC"),
    ];

    fn opened(names: &[&str]) -> Result<Vault, String> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let entropy = Arc::new(ScriptedEntropy::seeded(9));
        Vault::open(names, Arc::new(StaticSecrets::new(KEYS)), entropy)
    }

    fn vault(names: &[&str]) -> Vault {
        opened(names).expect("keys")
    }

    fn seed() -> Seed {
        Seed::of(&Secret::new("first"))
    }

    fn kept(token: &str) -> Kept {
        Kept { refresh_token: Some(Secret::new(token)), ..Kept::default() }
    }

    #[test]
    fn version_1_stays_readable() {
        let bytes = data_encoding::HEXLOWER
            .decode(b"01a7937b64b8caa58f03721bb6bacf5c787365636f6e64")
            .expect("hexadecimal");
        let read = decode(KEY, &bytes, None).expect("open");
        assert_eq!(read, Some((seed(), kept("second"))));
        assert_eq!(protection(&bytes, Some(&vault(&["NEW"]))), Protection::Plain);
    }

    #[test]
    fn version_2_stays_readable() {
        let plain = encode(KEY, seed(), &kept("second"), None).expect("encoded");
        assert_eq!(String::from_utf8_lossy(&plain[17..]), "\0{\"refresh_token\":\"second\"}");
        let sealed = encode(KEY, seed(), &kept("second"), Some(&vault(&["OLD"]))).expect("sealed");
        assert!(!String::from_utf8_lossy(&sealed).contains("second"));
        // Sealed once with the first key and kept here: whoever changes the layout breaks this.
        insta::assert_snapshot!(data_encoding::HEXLOWER.encode(&sealed));
    }

    #[test]
    fn a_key_is_rotated_by_putting_another_before_it() {
        let old = encode(KEY, seed(), &kept("t0ken"), Some(&vault(&["OLD"]))).expect("sealed");
        let both = vault(&["NEW", "OLD"]);
        assert_eq!(decode(KEY, &old, Some(&both)), Ok(Some((seed(), kept("t0ken")))));
        assert_eq!(protection(&old, Some(&both)), Protection::Older);
        let new = encode(KEY, seed(), &kept("t0ken"), Some(&both)).expect("sealed");
        assert_eq!(protection(&new, Some(&both)), Protection::Current);
        let only_old = decode(KEY, &new, Some(&vault(&["OLD"])));
        assert!(matches!(only_old, Err(Locked::OtherKey(_))), "{only_old:?}");
        assert!(matches!(decode(KEY, &new, None), Err(Locked::OtherKey(_))));
    }

    #[test]
    fn what_was_changed_or_moved_does_not_open() {
        let vault = vault(&["NEW"]);
        let sealed = encode(KEY, seed(), &kept("t0ken"), Some(&vault)).expect("sealed");
        assert_eq!(decode("auth/shop/other", &sealed, Some(&vault)), Err(Locked::Damaged));
        for at in [1, 30, 60, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_ne!(decode(KEY, &changed, Some(&vault)), Ok(Some((seed(), kept("t0ken")))));
        }
        assert_eq!(decode(KEY, &sealed[..50], Some(&vault)), Err(Locked::Damaged));
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let short = opened(&["SHORT"]).expect_err("too short");
        assert!(short.contains("SHORT") && !short.contains("AAEC"), "{short}");
        assert!(opened(&["ABSENT"]).expect_err("not set").contains("ABSENT"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn round_trip(refresh in ".+", access in ".*", at in any::<i32>(), noise in any::<Vec<u8>>()) {
            let kept = Kept {
                refresh_token: Some(Secret::new(refresh)),
                access_token: Some(Secret::new(access)),
                expires_at: Some(Timestamp(i64::from(at))),
            };
            for vault in [None, Some(vault(&["NEW"]))] {
                let bytes = encode(KEY, seed(), &kept, vault.as_ref()).expect("encoded");
                prop_assert_eq!(decode(KEY, &bytes, vault.as_ref()), Ok(Some((seed(), kept.clone()))));
                let _ = decode(KEY, &noise, vault.as_ref());
            }
        }
    }
}
