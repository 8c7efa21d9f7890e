//! Keys that are fetched: how often, by whose word, and what happens while nobody answers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, Request, StatusCode};
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};
use tenon::{
    egress::{Answer, Egress, EgressError, ExchangeLimits, Peer, Script},
    world::BoxFuture,
};
use tokio::time::{Duration, advance};

use super::rig::{NOW, Reply, Rig, limits};

const TABLES: &str = r#"
[stream.orders]
key = "$.id"

[stream.orders.webhook]
path   = "/orders"
verify = "issuer"

[verify.issuer]
algorithm = "jwt"

[verify.issuer.jwt]
algorithms = ["EdDSA"]
issuer     = "https://id.acme.example"
audience   = "orders"

[verify.issuer.keys]
url = "https://id.acme.example/jwks.json"
ttl = "1h"

[verify.issuer.signature]
header = "Authorization"
take   = "Bearer "

[verify.issuer.body_hash]
claim  = "sha256"
decode = "base64url"
"#;

/// A key set that grows, at times out of reach.
#[derive(Default)]
struct Issuer {
    asked: AtomicUsize,
    is_down: AtomicBool,
    has_second: AtomicBool,
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

impl Script for Issuer {
    fn answer(
        &self,
        _peer: &Peer,
        request: Request<Bytes>,
        _limits: ExchangeLimits,
    ) -> BoxFuture<'_, Result<Answer, EgressError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert_eq!(request.uri(), "https://id.acme.example/jwks.json");
        let key = |seed: u8| {
            let public = pair(seed);
            let public = ring::signature::KeyPair::public_key(&public);
            let x = BASE64URL_NOPAD.encode(public.as_ref());
            json!({"kty": "OKP", "crv": "Ed25519", "kid": format!("k{seed}"), "x": x})
        };
        let seeds: &[u8] = if self.has_second.load(Ordering::Relaxed) { &[1, 2] } else { &[1] };
        let keys: Vec<Value> = seeds.iter().map(|seed| key(*seed)).collect();
        let body = json!({"keys": keys}).to_string().into();
        let is_down = self.is_down.load(Ordering::Relaxed);
        Box::pin(async move {
            // As an answer over a wire, not at once.
            tokio::time::sleep(Duration::from_millis(20)).await;
            if is_down {
                return Err(EgressError::Connect("refused".to_owned()));
            }
            Ok(Answer { status: StatusCode::OK, headers: HeaderMap::new(), body })
        })
    }
}

fn rig() -> (Rig, Arc<Issuer>) {
    let issuer = Arc::new(Issuer::default());
    (Rig::with_egress(TABLES, limits(), Egress::scripted(issuer.clone())), issuer)
}

fn claims(body: &str) -> Value {
    let hash = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
    json!({
        "iss": "https://id.acme.example", "aud": ["orders", "x"], "exp": NOW.0 / 1000 + 36_000,
        "sha256": BASE64URL_NOPAD.encode(hash.as_ref()),
    })
}

async fn post(rig: &Rig, seed: u8, kid: &str, claims: &Value, body: &str) -> Reply {
    let text = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", text(&json!({"alg": "EdDSA", "kid": kid})), text(claims));
    let signature = BASE64URL_NOPAD.encode(pair(seed).sign(signed.as_bytes()).as_ref());
    let bearer = format!("Bearer {signed}.{signature}");
    rig.post("/orders", &[("authorization", &bearer)], body.to_owned()).await
}

async fn genuine(rig: &Rig, seed: u8) -> u16 {
    let body = r#"{"id":1}"#;
    post(rig, seed, &format!("k{seed}"), &claims(body), body).await.status.as_u16()
}

#[tokio::test(start_paused = true)]
async fn keys_are_asked_for_once_by_however_many() {
    let (rig, issuer) = rig();
    let rig = Arc::new(rig);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let rig = rig.clone();
        requests.spawn(async move { genuine(&rig, 1).await });
    }
    assert_eq!(requests.join_all().await, [202; 32]);
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 1);
    advance(Duration::from_mins(59)).await;
    assert_eq!(genuine(&rig, 1).await, 202);
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 1);
    advance(Duration::from_mins(2)).await;
    assert_eq!(genuine(&rig, 1).await, 202);
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 2, "the keys were over");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_and_made_up_ones_cost_little() {
    let (rig, issuer) = rig();
    assert_eq!(genuine(&rig, 1).await, 202);
    issuer.has_second.store(true, Ordering::Relaxed);
    assert_eq!(genuine(&rig, 2).await, 202, "a key that was not there before");
    let body = r#"{"id":1}"#;
    for number in 0..100 {
        let status = post(&rig, 3, &format!("x{number}"), &claims(body), body).await.status;
        assert!(status == 401 || status == 503, "{status}");
    }
    let asked = issuer.asked.load(Ordering::Relaxed);
    assert!(asked <= 2 + 20, "{asked} requests for keys");
    assert_eq!(genuine(&rig, 1).await, 202, "those that are known go on");
}

#[tokio::test(start_paused = true)]
async fn known_keys_outlive_the_one_who_gives_them_for_a_while() {
    let (rig, issuer) = rig();
    assert_eq!(genuine(&rig, 1).await, 202);
    issuer.is_down.store(true, Ordering::Relaxed);
    advance(Duration::from_mins(90)).await;
    assert_eq!(genuine(&rig, 1).await, 202);
    advance(Duration::from_mins(40)).await;
    assert_eq!(genuine(&rig, 1).await, 503, "not for ever");
    issuer.is_down.store(false, Ordering::Relaxed);
    assert_eq!(genuine(&rig, 1).await, 202);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_for_this_body_of_this_issuer_for_us_and_for_now() {
    let (rig, _issuer) = rig();
    let body = r#"{"id":1}"#;
    let good = claims(body);
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed
    };
    let mut endless = good.clone();
    endless.as_object_mut().unwrap().remove("exp");
    let mut bodiless = good.clone();
    bodiless.as_object_mut().unwrap().remove("sha256");
    for (what, claims) in [
        ("another issuer", with("iss", "https://evil.example".into())),
        ("another audience", with("aud", "invoices".into())),
        ("no audience", with("aud", Value::Null)),
        ("over", with("exp", (NOW.0 / 1000 - 61).into())),
        ("no end", endless),
        ("an end that is no number", with("exp", "soon".into())),
        ("not yet", with("nbf", (NOW.0 / 1000 + 61).into())),
        ("another body", claims("{}")),
        ("no body", bodiless),
    ] {
        assert_eq!(post(&rig, 1, "k1", &claims, body).await.status, 401, "{what}");
    }
    assert_eq!(post(&rig, 2, "k1", &good, body).await.status, 401, "another key under its name");
    assert_eq!(post(&rig, 1, "k1", &good, body).await.status, 202);
}
