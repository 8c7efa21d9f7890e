//! The stored kind "rotated refresh token": bus state `auth/<connector>/<auth>`.
//!
//! Encoding, version 1: one byte of version, 16 bytes of seed, then the token as UTF-8. The seed is
//! the beginning of SHA-256 over the refresh token that the file configures. While that is the same,
//! the stored token is its successor; once a person configures another, the stored one is history.
//! A value of another version, or one that is cut, reads as none.
//!
//! The token lies in the state folder as it is (the folder is 0700). Encryption at rest comes with the
//! rest of the stored secrets (issue 4); it will be version 2.

use ring::digest::{SHA256, digest};

use crate::world::Secret;

const VERSION: u8 = 1;
const SEED_BYTES: usize = 16;

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

/// The state's key.
pub(super) fn key(connector: &str, auth: &str) -> String {
    format!("auth/{connector}/{auth}")
}

pub(super) fn encode(seed: Seed, token: &Secret) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + SEED_BYTES + token.expose().len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&seed.0);
    bytes.extend_from_slice(token.expose().as_bytes());
    bytes
}

/// The stored successor of the token that `seed` stands for.
pub(super) fn decode(bytes: &[u8], seed: Seed) -> Option<Secret> {
    let (version, rest) = bytes.split_first()?;
    let (stored, token) = rest.split_at_checked(SEED_BYTES)?;
    if *version != VERSION || stored != seed.0 || token.is_empty() {
        return None;
    }
    std::str::from_utf8(token).ok().map(Secret::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    use super::{Seed, decode, encode};
    use crate::world::Secret;

    #[test]
    fn version_1_stays_readable() {
        let seed = Seed::of(&Secret::new("first"));
        let bytes = encode(seed, &Secret::new("second"));
        assert_eq!(
            data_encoding::HEXLOWER.encode(&bytes),
            "01a7937b64b8caa58f03721bb6bacf5c787365636f6e64"
        );
        assert_eq!(decode(&bytes, seed), Some(Secret::new("second")));
    }

    #[test]
    fn what_does_not_fit_is_none() {
        let seed = Seed::of(&Secret::new("first"));
        let bytes = encode(seed, &Secret::new("second"));
        assert_eq!(decode(&bytes, Seed::of(&Secret::new("another"))), None);
        assert_eq!(decode(&bytes[..17], seed), None);
        assert_eq!(decode(&[], seed), None);
        let newer = [&[2], &bytes[1..]].concat();
        assert_eq!(decode(&newer, seed), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn round_trip(configured in ".*", token in ".+", noise in any::<Vec<u8>>()) {
            let seed = Seed::of(&Secret::new(configured));
            let token = Secret::new(token);
            prop_assert_eq!(decode(&encode(seed, &token), seed), Some(token));
            let _ = decode(&noise, seed);
        }
    }
}
