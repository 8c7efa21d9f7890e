//! Tokens at rest: encrypted under the operator's key, which may be rotated.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use serde_json::json;
use tenon::{
    auth::{AuthError, Authenticator, Resealed, Vault},
    bus::{Bus as _, MemoryBus},
    egress::{Egress, EgressConfig},
    map::Env,
};

use super::rig::Rig;
use crate::support::{MockServer, Reply};

const KEYS: [(&str, &str); 4] = [
    ("OLD", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
    ("NEW", "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"),
    ("FIRST", "r0-s3cret"),
    ("ID", "client"),
];
const AT: &str = "auth/shop/api";

/// Every request rotates the refresh token.
async fn issuer() -> MockServer {
    let mut issued = 0;
    MockServer::start(move |_| {
        issued += 1;
        let refresh = format!("r{issued}-s3cret");
        Reply::json(json!({"access_token": "a-s3cret", "expires_in": 60, "refresh_token": refresh}))
    })
    .await
}

fn rig(server: &MockServer) -> Rig {
    let tables = format!(
        "[auth.api]\ntype = \"oauth2\"\ngrant = \"refresh_token\"\nclient_id = \"{{{{ secret.ID }}}}\"\n\
         token_url = \"{}\"\nrefresh_token = \"{{{{ secret.FIRST }}}}\"\n",
        server.url("/token")
    );
    Rig::new(&tables, &KEYS)
}

/// A daemon that starts over the same state with these keys.
async fn started(rig: &Rig, bus: &Arc<MemoryBus>, keys: &[&str]) -> (Authenticator, Resealed) {
    let names = keys.iter().map(|key| (*key).to_owned()).collect();
    let vault = Vault::open(names, rig.world.secrets.clone(), rig.world.entropy.clone()).unwrap();
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let egress = Egress::new(EgressConfig { allow, idle_per_host: 4 });
    let auth = Authenticator::new(rig.world.clone(), egress, bus.clone());
    let auth = auth.sealed_by((!keys.is_empty()).then_some(vault));
    let resealed = auth.reseal().await.unwrap();
    (auth, resealed)
}

async fn used(rig: &Rig, auth: &Authenticator) -> Result<(), AuthError> {
    let env = Env::new()
        .with("vars", rig.plan.vars.clone())
        .with_secrets(rig.world.secrets.clone(), rig.plan.secret_names.clone());
    let mut request = Request::get("https://api.example/").body(Bytes::new()).unwrap();
    auth.apply("shop", &rig.plan.auths["api"], &env, &mut request).await.map(drop)
}

/// The refresh token that was sent last.
fn sent(server: &MockServer) -> String {
    let seen = server.seen();
    let body = &seen.last().unwrap().body;
    let mut pairs = url::form_urlencoded::parse(body).into_owned();
    pairs.find(|(name, _)| name == "refresh_token").unwrap().1
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_encrypted_and_a_key_is_rotated_by_a_start() {
    let server = issuer().await;
    let rig = rig(&server);
    let bus = MemoryBus::new(rig.world.clock.clone());
    // Without a key it is stored as it is, and said to be.
    let (auth, nothing) = started(&rig, &bus, &[]).await;
    assert_eq!(nothing, Resealed::default());
    used(&rig, &auth).await.unwrap();
    let shown = |bus: &MemoryBus| String::from_utf8_lossy(&bus.state(AT).unwrap()).into_owned();
    assert!(shown(&bus).contains("r1-s3cret"));
    let (_, again) = started(&rig, &bus, &[]).await;
    assert_eq!(again, Resealed { plain: 1, ..Resealed::default() });

    let (auth, sealed) = started(&rig, &bus, &["OLD"]).await;
    assert_eq!(sealed, Resealed { written: 1, ..Resealed::default() });
    assert!(!shown(&bus).contains("s3cret"));
    used(&rig, &auth).await.unwrap();
    assert_eq!(sent(&server), "r1-s3cret");
    assert!(!shown(&bus).contains("s3cret"));

    let before = bus.state(AT);
    let (auth, rotated) = started(&rig, &bus, &["NEW", "OLD"]).await;
    assert_eq!(rotated, Resealed { written: 1, ..Resealed::default() });
    assert_ne!(bus.state(AT), before);
    used(&rig, &auth).await.unwrap();
    assert_eq!(sent(&server), "r2-s3cret");
    // The old key has done its duty.
    let (auth, done) = started(&rig, &bus, &["NEW"]).await;
    assert_eq!(done, Resealed::default());
    used(&rig, &auth).await.unwrap();
    assert_eq!(sent(&server), "r3-s3cret");

    // Without its key the configured token is not used in its place: the server has replaced it.
    for keys in [&["OLD"][..], &[]] {
        let (auth, locked) = started(&rig, &bus, keys).await;
        assert_eq!(locked.locked, 1);
        let asked = server.seen().len();
        let Err(AuthError::Held(message)) = used(&rig, &auth).await else { panic!("not held") };
        assert!(message.contains("[tokens]") && !message.contains("s3cret"), "{message}");
        assert_eq!(server.seen().len(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_version_before_wrote_is_read_and_written_anew() {
    let server = issuer().await;
    let rig = rig(&server);
    let bus = MemoryBus::new(rig.world.clock.clone());
    let seed = ring::digest::digest(&ring::digest::SHA256, b"r0-s3cret");
    let first = [&[1][..], &seed.as_ref()[..16], b"r7-s3cret"].concat();
    bus.put_state(AT, Some(first)).await.unwrap();
    let (auth, sealed) = started(&rig, &bus, &["NEW"]).await;
    assert_eq!(sealed.written, 1);
    used(&rig, &auth).await.unwrap();
    assert_eq!(sent(&server), "r7-s3cret");
}
