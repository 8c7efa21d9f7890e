//! `[verify.NAME]`: how a webhook's signature is checked. Data, never code.

use super::{
    collections::{Fields, OneOrMany, Pairs},
    kinds::{Expression, Int, Plain, Span},
    table::{choice, table},
    webhook::ReplyDef,
};

table! {
    /// How a webhook's signature is checked.
    pub struct VerifyDef "[verify.NAME]" {
        /// What makes the signature.
        algorithm "algorithm": AlgorithmDef, required;
        /// What is signed: a template of `body`, `timestamp`, `url`, `method`, `secret` and parts of `request`.
        signed "signed": Expression = "\"{{ body }}\"";
        /// The forms of the URL that are tried, where `signed` has it.
        urls "urls": OneOrMany<UrlFormDef> = "\"as_sent\"";
        /// Whether the signature binds the body. `false` must be spelled out.
        covers_body "covers_body": bool = "true";
        /// What must hold of the request besides.
        require "require": Expression;
        /// A value, such as the request's id, under which one body is taken and no other.
        once "once": Expression;
        /// The status that answers a bad signature.
        on_fail "on_fail": Int<400, 499> = "401";
        /// What the provider takes for an acknowledgement, where the webhook has no `reply`.
        reply "reply": ReplyDef;
        /// From the secret's text to the key's bytes.
        key "key": KeyDef;
        /// Public keys that are fetched, instead of a secret.
        keys "keys": KeysDef;
        /// Which JSON Web Tokens count.
        jwt "jwt": JwtDef;
        /// The client certificates that may post, of `mtls`.
        certificate "certificate": CertificateDef;
        /// Where the signatures stand.
        signature "signature": SignatureDef;
        /// Where the time of signing stands, and how far it may be off.
        timestamp "timestamp": TimestampDef;
        /// Where a SHA-256 of the body stands that is signed in its place.
        body_hash "body_hash": BodyHashDef;
        /// A request that wants an answer, not an event; several are `[[verify.NAME.challenge]]`.
        challenge "challenge": OneOrMany<ChallengeDef>;
    }
}

table! {
    /// From the secret's text to the key's bytes.
    pub struct KeyDef "[verify.NAME.key]" {
        /// The secret, where the webhook does not name it.
        secret "secret": Expression;
        /// How the secret's text encodes the key; `pem` of ECDSA and RSA, `hex` of ed25519, else `raw`.
        decode "decode": KeyEncodingDef;
        /// A prefix that is cut off first.
        strip "strip": Plain;
        /// For `basic`: the user's name.
        user "user": Expression;
    }
}

table! {
    /// Public keys that are fetched, instead of a secret.
    pub struct KeysDef "[verify.NAME.keys]" {
        /// Whom to ask, over https: a template of `request` and of `kid`, the token's key id.
        url "url": Expression, required;
        /// The only hosts that may be asked; `*` is one label. Without it, the host that `url` has.
        hosts "hosts": OneOrMany<Plain>;
        /// Members of the JSON document that is posted. Without it, a GET.
        body "body": Pairs<Expression>;
        /// What is fetched.
        form "form": KeysFormDef = "\"jwks\"";
        /// Where in the answer the key stands, of `jwk`.
        key "key": Expression = "\"$\"";
        /// How long a key is used before it is fetched again.
        ttl "ttl": Span = "\"24h\"";
    }
}

table! {
    /// Which JSON Web Tokens count.
    pub struct JwtDef "[verify.NAME.jwt]" {
        /// The allow-list of `alg`: symmetric ones or asymmetric ones, never both.
        algorithms "algorithms": OneOrMany<JwtAlgorithmDef>, required;
        /// What `iss` must be.
        issuer "issuer": Plain;
        /// What must be among `aud`.
        audience "audience": Plain;
    }
}

table! {
    /// The client certificate that a proxy has checked and passes on.
    pub struct CertificateDef "[verify.NAME.certificate]" {
        /// The header that holds it.
        header "header": Plain, required;
        /// What the header holds.
        form "form": CertificateFormDef = "\"pem\"";
        /// SHA-256 fingerprints of the certificates that may post.
        allow "allow": OneOrMany<Plain>, required;
    }
}

table! {
    /// Where the signatures stand.
    pub struct SignatureDef "[verify.NAME.signature]" {
        /// The header; a list is several, one `*` is any end.
        header "header": OneOrMany<Plain>;
        /// A path into the body, where it stands there.
        body "body": Expression;
        /// The parameter of the query, where it stands there.
        query "query": Plain;
        /// What separates several signatures.
        list "list": Separator;
        /// The prefix of those that count; it is cut off.
        take "take": Plain;
        /// How the signature is encoded.
        decode "decode": EncodingDef = "\"hex\"";
        /// How the two numbers of an ECDSA signature lie.
        layout "layout": LayoutDef = "\"der\"";
    }
}

table! {
    /// Where the time of signing stands, and how far it may be off.
    pub struct TimestampDef "[verify.NAME.timestamp]" {
        /// The header.
        header "header": Plain;
        /// A path into the body, where it stands there.
        body "body": Expression;
        /// The parameter of the query, where it stands there.
        query "query": Plain;
        /// The claim of the JSON Web Token.
        claim "claim": Plain;
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
    /// Where a SHA-256 of the body stands that is signed in its place.
    pub struct BodyHashDef "[verify.NAME.body_hash]" {
        /// The header, which `signed` has to have.
        header "header": Plain;
        /// The parameter of the query; `signed` has to have the URL.
        query "query": Plain;
        /// The claim of the JSON Web Token.
        claim "claim": Plain;
        /// How the digest is encoded.
        decode "decode": EncodingDef = "\"hex\"";
    }
}

table! {
    /// A request that wants an answer, not an event.
    pub struct ChallengeDef "[verify.NAME.challenge]" {
        /// Whether a request is one.
        when "when": Expression, required;
        /// Whether such a request is verified first; `false` where the provider does not sign it.
        verified "verified": bool = "true";
        /// A method that the endpoint takes for this alone.
        method "method": super::poll::MethodDef;
        /// What has to be the webhook's `verify_token`.
        verify_token "verify_token": Expression;
        /// A text whose HMAC under the secret is `signature` in the answer.
        sign "sign": Expression;
        /// How that signature is written.
        encode "encode": EncodingDef = "\"hex\"";
        /// A URL that is fetched before the answer, over https.
        visit "visit": Expression;
        /// The only hosts that `visit` may lead to; `*` is one label.
        hosts "hosts": OneOrMany<Plain>;
        /// The status of the answer.
        status "status": Int<200, 299> = "200";
        /// The answer as plain text.
        text "text": Expression;
        /// The answer as JSON.
        json "json": Fields;
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
        /// SHA-256 of a text that holds the secret.
        Sha256Concat "sha256-concat",
        /// Ed25519; the key is public.
        Ed25519 "ed25519",
        /// ECDSA on the curve P-256 with SHA-256; the key is public.
        EcdsaP256 "ecdsa-p256",
        /// RSA (PKCS #1 v1.5) with SHA-256; the key is public.
        RsaSha256 "rsa-sha256",
        /// RSA (PKCS #1 v1.5) with SHA-1; the key is public.
        RsaSha1 "rsa-sha1",
        /// A JSON Web Token.
        Jwt "jwt",
        /// A shared token, compared in constant time.
        Token "token",
        /// HTTP basic authentication.
        Basic "basic",
        /// A client certificate that a trusted proxy checked.
        Mtls "mtls",
        /// Nothing is verified.
        None "none",
    }
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
    /// How a key is written as text.
    pub enum KeyEncodingDef {
        /// As it is.
        Raw "raw",
        /// Hexadecimal digits.
        Hex "hex",
        /// Base64.
        Base64 "base64",
        /// Base64 with the alphabet of URLs.
        Base64Url "base64url",
        /// PEM: a public key, or the certificate that holds it.
        Pem "pem",
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

choice! {
    /// A form in which a producer may have signed the URL.
    pub enum UrlFormDef {
        /// As it arrived.
        AsSent "as_sent",
        /// With reserved characters decoded: `: / ? @ ! $ ' ( ) * , ;`.
        Decoded "decoded",
        /// With the scheme's default port spelled out.
        WithPort "with_port",
        /// Without any port.
        WithoutPort "without_port",
    }
}

choice! {
    /// What is fetched.
    pub enum KeysFormDef {
        /// A set of JSON Web Keys; the token's `kid` picks.
        Jwks "jwks",
        /// One JSON Web Key.
        Jwk "jwk",
        /// A public key or a certificate in PEM.
        Pem "pem",
    }
}

choice! {
    /// How a proxy passes a certificate on.
    pub enum CertificateFormDef {
        /// Percent-encoded PEM.
        Pem "pem",
        /// Base64 of the DER, with or without the colons of RFC 9440.
        Der "der",
        /// Its SHA-256 fingerprint in hexadecimal.
        Fingerprint "fingerprint",
    }
}

choice! {
    /// How the two numbers of an ECDSA signature lie.
    pub enum LayoutDef {
        /// In DER.
        Der "der",
        /// Side by side, 64 bytes.
        Raw "raw",
    }
}

choice! {
    /// A signature algorithm of JSON Web Tokens.
    pub enum JwtAlgorithmDef {
        /// HMAC with SHA-256; the key is the secret.
        Hs256 "HS256",
        /// HMAC with SHA-384; the key is the secret.
        Hs384 "HS384",
        /// HMAC with SHA-512; the key is the secret.
        Hs512 "HS512",
        /// RSA with SHA-256.
        Rs256 "RS256",
        /// RSA with SHA-384.
        Rs384 "RS384",
        /// RSA with SHA-512.
        Rs512 "RS512",
        /// ECDSA on P-256 with SHA-256.
        Es256 "ES256",
        /// Ed25519.
        EdDsa "EdDSA",
    }
}
