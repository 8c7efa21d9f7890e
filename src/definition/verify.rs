//! `[verify.NAME]`: how a webhook's signature is checked. Data, never code.

use super::{
    collections::Fields,
    kinds::{Expression, Int, Plain, Span},
    table::{choice, table},
};

table! {
    /// How a webhook's signature is checked.
    pub struct VerifyDef "[verify.NAME]" {
        /// What makes the signature.
        algorithm "algorithm": AlgorithmDef, required;
        /// What is signed: a template of `body`, `body_sha256`, `timestamp`, `url`, `method` and `request.headers['x']`.
        signed "signed": Expression = "\"{{ body }}\"";
        /// Whether the signature binds the body. `false` must be spelled out.
        covers_body "covers_body": bool = "true";
        /// The status that answers a bad signature.
        on_fail "on_fail": Int<400, 499> = "401";
        /// From the secret's text to the key's bytes.
        key "key": KeyDef;
        /// Where the signatures stand.
        signature "signature": SignatureDef;
        /// Where the time of signing stands, and how far it may be off.
        timestamp "timestamp": TimestampDef;
        /// A request that wants an answer, not an event.
        challenge "challenge": ChallengeDef;
    }
}

table! {
    /// From the secret's text to the key's bytes.
    pub struct KeyDef "[verify.NAME.key]" {
        /// The secret, where the webhook does not name it.
        secret "secret": Expression;
        /// How the secret's text encodes the key.
        decode "decode": EncodingDef = "\"raw\"";
        /// A prefix that is cut off first.
        strip "strip": Plain;
        /// For `basic`: the user's name.
        user "user": Expression;
    }
}

table! {
    /// Where the signatures stand.
    pub struct SignatureDef "[verify.NAME.signature]" {
        /// The header.
        header "header": Plain, required;
        /// What separates several signatures.
        list "list": Separator;
        /// The prefix of those that count; it is cut off.
        take "take": Plain;
        /// How the signature is encoded.
        decode "decode": EncodingDef = "\"hex\"";
    }
}

table! {
    /// Where the time of signing stands, and how far it may be off.
    pub struct TimestampDef "[verify.NAME.timestamp]" {
        /// The header.
        header "header": Plain, required;
        /// What separates the header's parts.
        list "list": Separator;
        /// The prefix of the part that counts; it is cut off.
        take "take": Plain;
        /// How the time is written.
        unit "unit": UnitDef = "\"s\"";
        /// How old it may be.
        past "past": Span = "\"5m\"";
        /// How far it may lie ahead.
        future "future": Span = "\"1m\"";
    }
}

table! {
    /// A request that wants an answer, not an event.
    pub struct ChallengeDef "[verify.NAME.challenge]" {
        /// Whether a request is one.
        when "when": Expression, required;
        /// The answer.
        json "json": Fields, required;
    }
}

/// Text between the parts of a header; may be a blank.
pub type Separator = super::kinds::Prose;

choice! {
    /// What makes the signature.
    pub enum AlgorithmDef {
        /// HMAC with SHA-256.
        HmacSha256 "hmac-sha256",
        /// HMAC with SHA-1.
        HmacSha1 "hmac-sha1",
        /// HMAC with SHA-512.
        HmacSha512 "hmac-sha512",
        /// A shared token, compared in constant time.
        Token "token",
        /// HTTP basic authentication.
        Basic "basic",
        /// Nothing is verified.
        None "none",
    } later ["sha256-concat", "ed25519", "ecdsa-p256", "rsa-sha256", "jwt"]
}

choice! {
    /// How bytes are written as text.
    pub enum EncodingDef {
        /// As they are.
        Raw "raw",
        /// Hexadecimal digits.
        Hex "hex",
        /// Base64.
        Base64 "base64",
        /// Base64 with the alphabet of URLs.
        Base64Url "base64url",
    }
}

choice! {
    /// How a time is written.
    pub enum UnitDef {
        /// Seconds since 1970.
        Seconds "s",
        /// Milliseconds since 1970.
        Milliseconds "ms",
        /// RFC 3339.
        Rfc3339 "rfc3339",
    }
}
