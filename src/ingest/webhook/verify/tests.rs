//! What the verifier takes and what it must not, scheme by scheme.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::*;
use crate::{
    plan::{HeaderPattern, KeyPlan, Located},
    world::Secret,
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const BODY: &[u8] = b"{\"id\": \"evt_test\"}";

/// As Stripe has it: `t=…,v1=…` over `t.body`.
fn stripe() -> VerifyPlan {
    VerifyPlan {
        signed: vec![SignedPart::Timestamp, SignedPart::Text(".".to_owned()), SignedPart::Body],
        signature: Some(SignaturePlan {
            at: located("stripe-signature", Some(","), Some("v1=")),
            decode: Encoding::Hex,
            is_raw_ecdsa: false,
        }),
        timestamp: Some(TimestampPlan {
            at: located("stripe-signature", Some(","), Some("t=")),
            unit: TimeUnit::Seconds,
            past: Duration::from_mins(5),
            future: Duration::from_mins(1),
        }),
        ..VerifyPlan::bare("stripe", Algorithm::HmacSha256)
    }
}

fn located(header: &str, list: Option<&str>, take: Option<&str>) -> Located {
    Located {
        place: Place::Headers(vec![HeaderPattern::Exact(header.to_owned())]),
        list: list.map(str::to_owned),
        take: take.map(str::to_owned),
    }
}

fn hex_of(secret: &str, timestamp: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{timestamp}.").as_bytes());
    context.update(body);
    HEXLOWER.encode(context.sign().as_ref())
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    map
}

fn key(plan: &VerifyPlan, secret: &str) -> Key {
    Key::prepare(plan, &Secret::new(secret), None, None).unwrap()
}

fn check(
    plan: &VerifyPlan,
    keys: &[Key],
    pairs: &[(&str, &str)],
    body: &'static [u8],
) -> Result<(), Reject> {
    let headers = headers(pairs);
    let url = "https://hooks.acme.example/in?a=1";
    let request = RequestParts { method: &Method::POST, url, headers: &headers };
    verify(plan, Keyring::of(keys), &request, RawBody::new(Bytes::from_static(body)), NOW).map(drop)
}

fn check_stripe(header: &str, body: &'static [u8]) -> Result<(), Reject> {
    let plan = stripe();
    check(&plan, &[key(&plan, "s3cret")], &[("stripe-signature", header)], body)
}

#[test]
fn any_listed_signature_may_match() {
    let good = hex_of("s3cret", 1_700_000_000, BODY);
    let upper = good.to_uppercase();
    let bad = "00".repeat(32);
    for header in [
        format!("t=1700000000,v1={good}"),
        format!("t=1700000000,v1={upper}"),
        format!("t=1700000000, v1={bad}, v1={good}, v0={bad}"),
        format!("v1=nothex,v1={good},t=1700000000"),
    ] {
        assert_eq!(check_stripe(&header, BODY), Ok(()), "{header}");
    }
}

#[test]
fn what_is_absent_or_wrong_is_rejected() {
    let good = hex_of("s3cret", 1_700_000_000, BODY);
    let other_key = hex_of("s3cres", 1_700_000_000, BODY);
    let cut = &good[..62];
    for (header, expected) in [
        (format!("t=1700000000,v1={other_key}"), Reject::Mismatch),
        (format!("t=1700000000,v1={cut}"), Reject::Mismatch),
        (format!("t=1700000001,v1={good}"), Reject::Mismatch),
        (format!("t=1700000000,v0={good}"), Reject::NoSignature),
        ("t=1700000000,v1=".to_owned(), Reject::NoSignature),
        ("t=1700000000".to_owned(), Reject::NoSignature),
        (format!("v1={good}"), Reject::NoTimestamp),
        (format!("t=,v1={good}"), Reject::NoTimestamp),
        (format!("t=soon,v1={good}"), Reject::NoTimestamp),
        (format!("t=99999999999999999999,v1={good}"), Reject::NoTimestamp),
        (format!("t=9223372036854775807,v1={good}"), Reject::NoTimestamp),
        (format!("t=1700000000,t=1700000001,v1={good}"), Reject::NoTimestamp),
        (String::new(), Reject::NoTimestamp),
    ] {
        assert_eq!(check_stripe(&header, BODY), Err(expected), "{header}");
    }
    let plan = stripe();
    assert_eq!(check(&plan, &[key(&plan, "s3cret")], &[], BODY), Err(Reject::NoTimestamp));
}

#[test]
fn timestamps_are_held_to_both_tolerances() {
    for (at, expected) in [
        (1_700_000_000 - 300, Ok(())),
        (1_700_000_000 - 301, Err(Reject::TooOld)),
        (1_700_000_000 + 60, Ok(())),
        (1_700_000_000 + 61, Err(Reject::TooNew)),
    ] {
        let header = format!("t={at},v1={}", hex_of("s3cret", at, BODY));
        assert_eq!(check_stripe(&header, BODY), expected, "{at}");
    }
}

/// Field trap 13: a body that was parsed and written again has another signature.
#[test]
fn trap_13_only_the_raw_bytes_have_the_signature() {
    let header = format!("t=1700000000,v1={}", hex_of("s3cret", 1_700_000_000, BODY));
    assert_eq!(check_stripe(&header, b"{\"id\": \"evt_test\"}"), Ok(()));
    assert_eq!(check_stripe(&header, b"{\"id\":\"evt_test\"}"), Err(Reject::Mismatch));
    assert_eq!(check_stripe(&header, b"{\"id\": \"evt_tesu\"}"), Err(Reject::Mismatch));
}

/// Field trap 8: an overlap ends at its instant.
#[test]
fn trap_8_a_secret_ends_to_the_millisecond() {
    let plan = stripe();
    let header = format!("t=1700000000,v1={}", hex_of("old", 1_700_000_000, BODY));
    let pairs = [("stripe-signature", header.as_str())];
    let until = |last| {
        let old = Key::prepare(&plan, &Secret::new("old"), None, Some(last)).unwrap();
        check(&plan, &[key(&plan, "new"), old], &pairs, BODY)
    };
    assert_eq!(until(NOW), Ok(()));
    assert_eq!(until(NOW.minus(Duration::from_millis(1))), Err(Reject::Mismatch));
}

/// Field trap 7: what cannot be checked is not let through.
#[test]
fn trap_7_nothing_fails_open() {
    let good = format!("t=1700000000,v1={}", hex_of("s3cret", 1_700_000_000, BODY));
    let pairs = [("stripe-signature", good.as_str())];
    let plan = stripe();
    assert_eq!(check(&plan, &[], &pairs, BODY), Err(Reject::NoKey));
    let token = VerifyPlan { algorithm: Algorithm::Token, ..stripe() };
    assert_eq!(check(&plan, &[key(&token, "s3cret")], &pairs, BODY), Err(Reject::NoKey));
    let nothing_signed = VerifyPlan { signed: Vec::new(), ..stripe() };
    let of_nothing = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"s3cret"), b"");
    let header = format!("t=1700000000,v1={}", HEXLOWER.encode(of_nothing.as_ref()));
    let keys = [key(&plan, "s3cret")];
    let pairs_of_nothing = [("stripe-signature", header.as_str())];
    let found = check(&nothing_signed, &keys, &pairs_of_nothing, BODY);
    assert_eq!(found, Err(Reject::NoKey));
    let no_place = VerifyPlan { signature: None, ..stripe() };
    assert_eq!(check(&no_place, &keys, &pairs, BODY), Err(Reject::NoSignature));
}

#[test]
fn a_secret_without_a_key_in_it_is_refused() {
    use crate::ingest::webhook::KeyProblem;
    let mut plan = stripe();
    plan.key = KeyPlan { strip: Some("whsec_".to_owned()), decode: Encoding::Base64 };
    let problem = |text| Key::prepare(&plan, &Secret::new(text), None, None).err();
    assert_eq!(problem("whsec_"), Some(KeyProblem::Empty));
    assert_eq!(problem(""), Some(KeyProblem::Empty));
    assert_eq!(problem("whsec_?"), Some(KeyProblem::Undecodable));
    assert_eq!(problem("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), None);
}

#[test]
fn signed_headers_must_stand_there_once() {
    let mut plan = stripe();
    plan.timestamp = None;
    plan.signed = vec![SignedPart::Header("x-id".to_owned()), SignedPart::Body];
    let keys = [key(&plan, "s3cret")];
    let mut signed = b"one".to_vec();
    signed.extend_from_slice(BODY);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"s3cret"), &signed);
    let signature = format!("v1={}", HEXLOWER.encode(tag.as_ref()));
    let signature = ("stripe-signature", signature.as_str());
    assert_eq!(check(&plan, &keys, &[signature, ("x-id", "one")], BODY), Ok(()));
    assert_eq!(check(&plan, &keys, &[signature], BODY), Err(Reject::NoSignedPart));
    let twice = [signature, ("x-id", "one"), ("x-id", "two")];
    assert_eq!(check(&plan, &keys, &twice, BODY), Err(Reject::NoSignedPart));
}

#[test]
fn tokens_and_passwords_are_compared() {
    let mut plan = stripe();
    plan.timestamp = None;
    plan.algorithm = Algorithm::Token;
    plan.signature = Some(SignaturePlan {
        at: located("x-gitlab-token", None, None),
        decode: Encoding::Raw,
        is_raw_ecdsa: false,
    });
    let keys = [key(&plan, "tok")];
    let token = |text| check(&plan, &keys, &[("x-gitlab-token", text)], BODY);
    assert_eq!(token("tok"), Ok(()));
    assert_eq!(token("toc"), Err(Reject::Mismatch));
    assert_eq!(token(""), Err(Reject::NoSignature));

    plan.algorithm = Algorithm::Basic;
    let user = Secret::new("shop");
    let keys = [Key::prepare(&plan, &Secret::new("pass:word"), Some(&user), None).unwrap()];
    let basic = |text| check(&plan, &keys, &[("authorization", text)], BODY);
    // shop:pass:word, shop:pass, shop
    assert_eq!(basic("Basic c2hvcDpwYXNzOndvcmQ="), Ok(()));
    assert_eq!(basic("basic c2hvcDpwYXNzOndvcmQ"), Ok(()));
    assert_eq!(basic("Basic c2hvcDpwYXNz"), Err(Reject::Mismatch));
    assert_eq!(basic("Basic c2hvcA=="), Err(Reject::Mismatch));
    assert_eq!(basic("Bearer c2hvcDpwYXNzOndvcmQ="), Err(Reject::NoSignature));
    assert_eq!(check(&plan, &keys, &[], BODY), Err(Reject::NoSignature));
}
