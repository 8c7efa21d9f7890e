//! Key pairs that tests of connectors sign with. They are public, so they protect nothing: what
//! belongs to them is made up along with the tests' other secrets.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use ring::{
    rand::SystemRandom,
    signature::{
        self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use serde_json::{Value, json};

use crate::plan::{Algorithm, Encoding, JwtAlgorithm, VerifyPlan};

/// The key id of all of them.
pub(super) const KID: &str = "test";

const SEED: [u8; 32] = [7; 32];
/// One, and the point that belongs to it: the curve's own.
const P256_PRIVATE: [u8; 32] = {
    let mut one = [0; 32];
    one[31] = 1;
    one
};
const P256_PUBLIC: &str = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
const RSA: &[u8] = include_bytes!("pair.der");

/// What precedes the bare key in a `SubjectPublicKeyInfo`.
const ED25519_INFO: &str = "302a300506032b6570032100";
const P256_INFO: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
const RSA_ALGORITHM: &str = "300d06092a864886f70d0101010500";

/// Which pair.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pair {
    Ed25519,
    P256,
    Rsa,
}

fn pair_of(plan: &VerifyPlan) -> Option<Pair> {
    Some(match plan.algorithm {
        Algorithm::Ed25519 => Pair::Ed25519,
        Algorithm::EcdsaP256 => Pair::P256,
        Algorithm::RsaSha1 | Algorithm::RsaSha256 => Pair::Rsa,
        Algorithm::Jwt => match plan.jwt.as_ref()?.algorithms.first()? {
            JwtAlgorithm::EdDsa => Pair::Ed25519,
            JwtAlgorithm::Es256 => Pair::P256,
            JwtAlgorithm::Rs256 | JwtAlgorithm::Rs384 | JwtAlgorithm::Rs512 => Pair::Rsa,
            JwtAlgorithm::Hs256 | JwtAlgorithm::Hs384 | JwtAlgorithm::Hs512 => return None,
        },
        _ => return None,
    })
}

/// The secret that a test gives a scheme whose key is public, in the form that it is used in.
/// `None`: the scheme has a secret of its own, or fetches its keys.
pub fn test_secret(plan: &VerifyPlan) -> Option<String> {
    let pair = pair_of(plan).filter(|_| plan.keys.is_none())?;
    let bytes = match (pair, plan.key.decode) {
        (_, Encoding::Pem) => return Some(pem(pair)),
        (Pair::Ed25519, _) => bare(Pair::Ed25519),
        (pair, _) => spki(pair),
    };
    Some(match plan.key.decode {
        Encoding::Hex => HEXLOWER.encode(&bytes),
        Encoding::Base64Url => BASE64URL_NOPAD.encode(&bytes),
        _ => BASE64.encode(&bytes),
    })
}

/// What somebody who gives out keys answers in a test: whatever form is asked for is in it.
pub fn test_keys() -> Value {
    let (point, rsa) = (bare(Pair::P256), rsa());
    let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(rsa.public());
    let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let elliptic = json!({"kty": "EC", "crv": "P-256", "kid": KID, "x": text(&point[1..33]), "y": text(&point[33..])});
    let of_rsa = json!({"kty": "RSA", "kid": KID, "n": text(&n), "e": text(&e)});
    let edwards =
        json!({"kty": "OKP", "crv": "Ed25519", "kid": KID, "x": text(&bare(Pair::Ed25519))});
    json!({"keys": [elliptic, of_rsa, edwards], "key": elliptic, "pem": pem(Pair::Rsa)})
}

/// A signature in the form that the scheme wants.
pub(super) fn sign(plan: &VerifyPlan, message: &[u8]) -> Option<Vec<u8>> {
    let is_raw = plan.signature.as_ref().is_some_and(|signature| signature.is_raw_ecdsa);
    Some(match plan.algorithm {
        Algorithm::Ed25519 => edwards().sign(message).as_ref().to_vec(),
        Algorithm::EcdsaP256 if is_raw => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, message)?,
        Algorithm::EcdsaP256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, message)?,
        Algorithm::RsaSha256 => with_rsa(&signature::RSA_PKCS1_SHA256, message)?,
        // ring verifies SHA-1 for the sake of those who still use it, and signs nothing with it.
        _ => return None,
    })
}

/// A token's signature.
pub(super) fn sign_jwt(algorithm: JwtAlgorithm, message: &[u8]) -> Option<Vec<u8>> {
    match algorithm {
        JwtAlgorithm::EdDsa => Some(edwards().sign(message).as_ref().to_vec()),
        JwtAlgorithm::Es256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, message),
        JwtAlgorithm::Rs256 => with_rsa(&signature::RSA_PKCS1_SHA256, message),
        JwtAlgorithm::Rs384 => with_rsa(&signature::RSA_PKCS1_SHA384, message),
        JwtAlgorithm::Rs512 => with_rsa(&signature::RSA_PKCS1_SHA512, message),
        JwtAlgorithm::Hs256 | JwtAlgorithm::Hs384 | JwtAlgorithm::Hs512 => None,
    }
}

fn edwards() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&SEED).expect("the seed has 32 bytes")
}

fn rsa() -> RsaKeyPair {
    RsaKeyPair::from_pkcs8(RSA).expect("the file beside this one is a key")
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, message: &[u8]) -> Option<Vec<u8>> {
    let random = SystemRandom::new();
    let public = bare(Pair::P256);
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, &P256_PRIVATE, &public, &random);
    Some(pair.ok()?.sign(&random, message).ok()?.as_ref().to_vec())
}

fn with_rsa(padding: &'static dyn RsaEncoding, message: &[u8]) -> Option<Vec<u8>> {
    let pair = rsa();
    let mut signed = vec![0; pair.public().modulus_len()];
    pair.sign(padding, &SystemRandom::new(), message, &mut signed).ok()?;
    Some(signed)
}

fn hex(digits: &str) -> Vec<u8> {
    HEXLOWER.decode(digits.as_bytes()).expect("written above")
}

fn bare(pair: Pair) -> Vec<u8> {
    match pair {
        Pair::Ed25519 => edwards().public_key().as_ref().to_vec(),
        Pair::P256 => hex(P256_PUBLIC),
        Pair::Rsa => rsa().public().as_ref().to_vec(),
    }
}

fn spki(pair: Pair) -> Vec<u8> {
    let key = bare(pair);
    match pair {
        Pair::Ed25519 => [hex(ED25519_INFO), key].concat(),
        Pair::P256 => [hex(P256_INFO), key].concat(),
        Pair::Rsa => {
            let bits = element(0x03, &[&[0][..], &key].concat());
            element(0x30, &[hex(RSA_ALGORITHM), bits].concat())
        }
    }
}

/// A DER element of 256 to 65,535 bytes.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[tag, 0x82][..], &length, content].concat()
}

fn pem(pair: Pair) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", BASE64.encode(&spki(pair)))
}
