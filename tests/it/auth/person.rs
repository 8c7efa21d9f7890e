//! A person's login: authorization code with PKCE, against a scripted authorization server.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::Request;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use serde_json::json;
use tenon::{
    auth::{AuthError, Authenticator, Redirected},
    bus::MemoryBus,
    egress::{Egress, EgressConfig},
    map::Env,
    world::Secret,
};
use url::Url;

use super::rig::{Rig, header, said};
use crate::support::{MockServer, Reply};

const REDIRECT: &str = "http://127.0.0.1:4711/callback";

/// Redeems the code `c0de` for whoever knows the verifier of the challenge, once.
async fn issuer(challenge: Arc<Mutex<String>>, renews: bool) -> MockServer {
    let mut issued = 0;
    MockServer::start(move |seen| {
        let form: std::collections::HashMap<String, String> =
            url::form_urlencoded::parse(&seen.body).into_owned().collect();
        let fits = match form["grant_type"].as_str() {
            "authorization_code" => {
                let hash = digest(&SHA256, form["code_verifier"].as_bytes());
                form["code"] == "c0de-s3cret"
                    && form["redirect_uri"] == REDIRECT
                    && BASE64URL_NOPAD.encode(hash.as_ref()) == *challenge.lock()
            }
            "refresh_token" => {
                form["refresh_token"] == format!("r{issued}-s3cret") && *challenge.lock() != "ended"
            }
            _ => false,
        };
        if !fits {
            return Reply::json(json!({"error": "invalid_grant"})).with_status(400);
        }
        issued += 1;
        let mut answer = json!({"access_token": format!("a{issued}-s3cret")});
        if renews {
            answer["refresh_token"] = format!("r{issued}-s3cret").into();
            answer["expires_in"] = 100.into();
        }
        Reply::json(answer)
    })
    .await
}

/// The rig, and what a daemon has over one state.
struct Person {
    rig: Rig,
    bus: Arc<MemoryBus>,
    auth: Authenticator,
    challenge: Arc<Mutex<String>>,
    _server: MockServer,
}

impl Person {
    async fn new(renews: bool, more: &str) -> Self {
        let challenge = Arc::new(Mutex::new(String::new()));
        let server = issuer(challenge.clone(), renews).await;
        let tables = format!(
            "[auth.api]\ntype = \"oauth2\"\ngrant = \"authorization_code\"\nclient_id = \"app-1\"\n\
             client_secret = \"{{{{ secret.SECRET }}}}\"\nclient_auth = \"body\"\n\
             authorize_url = \"https://login.example/authorize?brand=x\"\n\
             token_url = \"{}\"\nscopes = [\"a\", \"b\"]\n\
             authorize_params = {{ access_type = \"offline\" }}\n{more}\n",
            server.url("/token")
        );
        let rig = Rig::new(&tables, &[("SECRET", "cl1ent-s3cret")]);
        let bus = MemoryBus::new(rig.world.clock.clone());
        let auth = started(&rig, &bus);
        Self { rig, bus, auth, challenge, _server: server }
    }

    fn env(&self) -> Env {
        Env::new()
            .with("vars", self.rig.plan.vars.clone())
            .with_secrets(self.rig.world.secrets.clone(), self.rig.plan.secret_names.clone())
    }

    /// Begins a login; the page, of which the server is told the challenge.
    fn begun(&self) -> Url {
        let plan = &self.rig.plan.auths["api"];
        let begun = self.auth.begin_login("shop", plan, &self.env(), REDIRECT).unwrap();
        let page = Url::parse(&begun.url).unwrap();
        *self.challenge.lock() = parameter(&page, "code_challenge");
        page
    }

    async fn finished(&self, state: &str, issuer: Option<&str>) -> Result<(), AuthError> {
        let code = Secret::new("c0de-s3cret");
        let issuer = issuer.map(str::to_owned);
        let back = Redirected { code, state: state.to_owned(), issuer };
        let plan = &self.rig.plan.auths["api"];
        self.auth.finish_login("shop", plan, &self.env(), &back).await
    }

    async fn used(&self, auth: &Authenticator) -> Result<String, AuthError> {
        let mut request = Request::get("https://api.example/").body(Bytes::new()).unwrap();
        auth.apply("shop", &self.rig.plan.auths["api"], &self.env(), &mut request).await?;
        Ok(header(&request, "authorization").to_owned())
    }
}

fn started(rig: &Rig, bus: &Arc<MemoryBus>) -> Authenticator {
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let egress = Egress::new(EgressConfig { allow, idle_per_host: 4 });
    Authenticator::new(rig.world.clone(), egress, bus.clone())
}

fn parameter(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(known, _)| known == name).unwrap().1.into_owned()
}

fn held(result: Result<impl std::fmt::Debug, AuthError>) -> String {
    match result {
        Err(AuthError::Held(message)) => {
            assert!(!message.contains("s3cret"), "{message}");
            message
        }
        other => panic!("not held: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_is_redeemed_once_and_outlives_the_daemon() {
    let person = Person::new(true, "").await;
    let before = held(person.used(&person.auth).await);
    assert_eq!(before, "nobody has logged in: run `tenon auth login shop api`");
    let page = person.begun();
    for (name, value) in [
        ("brand", "x"),
        ("response_type", "code"),
        ("client_id", "app-1"),
        ("redirect_uri", REDIRECT),
        ("scope", "a b"),
        ("code_challenge_method", "S256"),
        ("access_type", "offline"),
    ] {
        assert_eq!(parameter(&page, name), value);
    }
    let state = parameter(&page, "state");
    assert_eq!(state.len(), 43);
    // What belongs to another login is refused, and does not end this one.
    assert!(held(person.finished("other", None).await).contains("another login"));
    person.finished(&state, None).await.unwrap();
    assert_eq!(person.used(&person.auth).await.unwrap(), "Bearer a1-s3cret");
    assert!(held(person.finished(&state, None).await).contains("no login was begun"));
    // After a restart the refresh token is used, rotated, and used again.
    let again = started(&person.rig, &person.bus);
    assert_eq!(person.used(&again).await.unwrap(), "Bearer a2-s3cret");
    let third = started(&person.rig, &person.bus);
    assert_eq!(person.used(&third).await.unwrap(), "Bearer a3-s3cret");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_does_not_end_is_kept() {
    let person = Person::new(false, "").await;
    let state = parameter(&person.begun(), "state");
    person.finished(&state, None).await.unwrap();
    let again = started(&person.rig, &person.bus);
    assert_eq!(person.used(&again).await.unwrap(), "Bearer a1-s3cret");
    let plan = &person.rig.plan.auths["api"];
    let left = again.login_state("shop", plan, &person.env()).unwrap().unwrap();
    assert_eq!((left.renews, left.expires_at), (false, None));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_the_provider_ended_is_none_until_somebody_logs_in_again() {
    let person = Person::new(true, "").await;
    let plan = &person.rig.plan.auths["api"];
    let refused = || {
        let state = person.auth.login_state("shop", plan, &person.env()).unwrap();
        state.map(|state| state.refused)
    };
    // That nobody has logged in is no refusal.
    held(person.used(&person.auth).await);
    assert_eq!(refused(), None);
    let state = parameter(&person.begun(), "state");
    person.finished(&state, None).await.unwrap();
    assert_eq!(refused(), Some(None));
    "ended".clone_into(&mut person.challenge.lock());
    let clock = &person.rig.world.clock;
    clock.sleep_until(clock.now().plus(std::time::Duration::from_secs(200))).await;
    held(person.used(&person.auth).await);
    let message = refused().unwrap().unwrap();
    assert!(message.contains("invalid_grant") && !message.contains("s3cret"), "{message}");
    let state = parameter(&person.begun(), "state");
    person.finished(&state, None).await.unwrap();
    assert_eq!(refused(), Some(None));
}

#[tokio::test(start_paused = true)]
async fn the_answer_has_to_come_from_who_was_asked() {
    let exact = "issuer = \"https://login.example\"";
    for (more, said, fine) in [
        ("", None, true),
        ("", Some("https://login.example/tenant"), true),
        ("", Some("https://evil.example"), false),
        (exact, Some("https://login.example"), true),
        (exact, Some("https://login.example/"), false),
        (exact, None, false),
    ] {
        let person = Person::new(true, more).await;
        let state = parameter(&person.begun(), "state");
        let finished = person.finished(&state, said).await;
        assert_eq!(finished.is_ok(), fine, "{more} {said:?} {finished:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_ends_after_ten_minutes_and_a_new_one_replaces_it() {
    let person = Person::new(true, "").await;
    let first = parameter(&person.begun(), "state");
    let second = parameter(&person.begun(), "state");
    assert!(held(person.finished(&first, None).await).contains("another login"));
    tokio::time::advance(std::time::Duration::from_secs(600)).await;
    assert!(held(person.finished(&second, None).await).contains("ten minutes"));
}

#[test]
fn a_login_that_lacks_its_page_is_said_when_the_file_is_loaded() {
    let tables = "[auth.api]\ntype = \"oauth2\"\ngrant = \"authorization_code\"\nclient_id = \"a\"\n\
        token_url = \"https://l.example/\"\njwt = { algorithm = \"HS256\", key = \"{{ secret.K }}\" }\n";
    insta::assert_snapshot!(said("api", tables));
}
