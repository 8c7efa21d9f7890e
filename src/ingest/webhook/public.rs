//! Public keys: from PEM, DER, bare bytes, certificates and JSON Web Keys to what a signature is
//! checked with. Pure.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use crate::plan::{Algorithm, JwtAlgorithm};

/// A public key. Which one it is decides what it can verify: no other algorithm is ever tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The name that a key set gives it.
    pub(super) kid: Option<String>,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// 32 bytes.
    Ed25519(Vec<u8>),
    /// An uncompressed point.
    P256(Vec<u8>),
    /// PKCS #1.
    Rsa(Vec<u8>),
    /// Modulus and exponent.
    RsaParts { n: Vec<u8>, e: Vec<u8> },
}

/// What checks a signature.
#[derive(Clone, Copy)]
pub(super) enum Check {
    Ed25519,
    P256Der,
    P256Raw,
    Rsa(&'static RsaParameters),
}

impl Check {
    pub fn of(algorithm: Algorithm, is_raw_ecdsa: bool) -> Option<Self> {
        Some(match algorithm {
            Algorithm::Ed25519 => Self::Ed25519,
            Algorithm::EcdsaP256 if is_raw_ecdsa => Self::P256Raw,
            Algorithm::EcdsaP256 => Self::P256Der,
            Algorithm::RsaSha256 => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RsaSha1 => {
                Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY)
            }
            _ => return None,
        })
    }

    /// Of a token; `None` for the symmetric ones.
    pub fn of_jwt(algorithm: JwtAlgorithm) -> Option<Self> {
        Some(match algorithm {
            JwtAlgorithm::Rs256 => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            JwtAlgorithm::Rs384 => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            JwtAlgorithm::Rs512 => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            JwtAlgorithm::Es256 => Self::P256Raw,
            JwtAlgorithm::EdDsa => Self::Ed25519,
            JwtAlgorithm::Hs256 | JwtAlgorithm::Hs384 | JwtAlgorithm::Hs512 => return None,
        })
    }
}

impl PublicKey {
    /// Whether this key made the signature. A key of another kind made none.
    pub(super) fn verifies(&self, check: Check, message: &[u8], given: &[u8]) -> bool {
        let checked = match (&self.form, check) {
            (Form::Ed25519(key), Check::Ed25519) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, given)
            }
            (Form::P256(key), Check::P256Der) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, key)
                    .verify(message, given)
            }
            (Form::P256(key), Check::P256Raw) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key)
                    .verify(message, given)
            }
            (Form::Rsa(key), Check::Rsa(how)) => {
                UnparsedPublicKey::new(how, key).verify(message, given)
            }
            (Form::RsaParts { n, e }, Check::Rsa(how)) => {
                RsaPublicKeyComponents { n, e }.verify(how, message, given)
            }
            _ => return false,
        };
        checked.is_ok()
    }

    /// A key for `algorithm` from its bytes: bare, or a `SubjectPublicKeyInfo` (RFC 5280) in DER.
    pub(super) fn of_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        let form = match (algorithm, bytes) {
            (Algorithm::Ed25519, bytes) if bytes.len() == 32 => Form::Ed25519(bytes.to_vec()),
            (Algorithm::EcdsaP256, [4, ..]) if bytes.len() == 65 => Form::P256(bytes.to_vec()),
            _ => of_spki(bytes)?,
        };
        let fits = matches!(
            (algorithm, &form),
            (Algorithm::Ed25519, Form::Ed25519(_))
                | (Algorithm::EcdsaP256, Form::P256(_))
                | (Algorithm::RsaSha1 | Algorithm::RsaSha256, Form::Rsa(_))
                | (Algorithm::Jwt, _)
        );
        fits.then_some(Self { kid: None, form })
    }

    /// The first public key or certificate of a PEM text. Line ends may be written as `\n`, as they
    /// often are in an environment variable.
    pub(super) fn of_pem(text: &str) -> Option<Self> {
        let text = text.replace("\\n", "\n");
        let (label, der) = unarmoured(&text)?;
        let form = match label {
            "PUBLIC KEY" => of_spki(&der)?,
            "RSA PUBLIC KEY" => Form::Rsa(der),
            "CERTIFICATE" => {
                let der = CertificateDer::from(der);
                let certificate = rustls::server::ParsedCertificate::try_from(&der).ok()?;
                of_spki(&certificate.subject_public_key_info())?
            }
            _ => return None,
        };
        Some(Self { kid: None, form })
    }

    /// A JSON Web Key that may verify. `None` also for one that has expired or is for encryption.
    pub(super) fn of_jwk(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| BASE64URL_NOPAD.decode(text(name)?.as_bytes()).ok();
        let is_for_signatures = text("use").is_none_or(|purpose| purpose == "sig");
        let is_over = key.get("expired_at").is_some_and(|at| !at.is_null());
        if !is_for_signatures || is_over {
            return None;
        }
        let form = match (text("kty")?, text("crv")) {
            ("RSA", _) => Form::RsaParts { n: bytes("n")?, e: bytes("e")? },
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                Form::P256([&[4][..], &x, &y].concat())
            }
            ("OKP", Some("Ed25519")) => Form::Ed25519(bytes("x")?),
            _ => return None,
        };
        Some(Self { kid: text("kid").map(str::to_owned), form })
    }
}

/// Label and bytes of the first block of a PEM text (RFC 7468).
pub(super) fn unarmoured(text: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let digits: String = body.chars().filter(|c| !c.is_whitespace() && *c != '=').collect();
    Some((label, BASE64_NOPAD.decode(digits.as_bytes()).ok()?))
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BIT_STRING: u8 = 0x03;

/// `SEQUENCE { SEQUENCE { algorithm, parameters }, BIT STRING }`
fn of_spki(der: &[u8]) -> Option<Form> {
    let (info, rest) = element(der, SEQUENCE)?;
    let (algorithm, info) = element(info, SEQUENCE)?;
    let (key, end) = element(info, BIT_STRING)?;
    let (identifier, parameters) = element(algorithm, OBJECT_IDENTIFIER)?;
    // The first byte says how many bits of the last are unused: none, in a key.
    let (0, key) = key.split_first().map(|(unused, key)| (*unused, key))? else { return None };
    if !rest.is_empty() || !end.is_empty() {
        return None;
    }
    match identifier {
        RSA => Some(Form::Rsa(key.to_vec())),
        ED25519 if key.len() == 32 => Some(Form::Ed25519(key.to_vec())),
        EC if element(parameters, OBJECT_IDENTIFIER)?.0 == P256 => Some(Form::P256(key.to_vec())),
        _ => None,
    }
}

/// The content of the DER element with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (head, rest) = der.split_first_chunk::<2>()?;
    if head[0] != tag {
        return None;
    }
    let (length, rest) = match head[1] {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_of_another_kind_are_none() {
        assert_eq!(PublicKey::of_bytes(Algorithm::EcdsaP256, &[7; 32]), None);
        assert_eq!(PublicKey::of_bytes(Algorithm::Ed25519, &[7; 31]), None);
        assert_eq!(
            PublicKey::of_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
            None
        );
        let jwk = |text: &str| PublicKey::of_jwk(&serde_json::from_str(text).unwrap());
        let point = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let key = format!(r#"{{"kty":"EC","crv":"P-256","x":"{point}","y":"{point}"}}"#);
        assert!(jwk(&key).is_some());
        assert_eq!(jwk(&key.replace("P-256", "P-384")), None);
        assert_eq!(jwk(&key.replacen('{', r#"{"use":"enc","#, 1)), None);
        assert_eq!(jwk(&key.replacen('{', r#"{"expired_at":1700000000,"#, 1)), None);
        assert_eq!(jwk(r#"{"kty":"oct","k":"AAAA"}"#), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = of_spki(&bytes);
            let _ = PublicKey::of_pem(&String::from_utf8_lossy(&bytes));
        }
    }
}
