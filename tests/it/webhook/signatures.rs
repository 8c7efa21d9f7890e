//! Presets and `[verify.NAME]` tables against the vendors' own vectors, and against each vector
//! broken in every way that a verifier must notice.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use tenon::{
    ingest::webhook::{Key, Keyring, RawBody, Reject, RequestParts, verify},
    plan::VerifyPlan,
    world::{Secret, Timestamp},
};

use super::rig::{connector_file, plan_of};

/// How a provider's signed string is spread over a request. What it holds besides `body` is in
/// `headers` and `url`; the signature's header comes from the vector.
struct Case {
    /// The vector's name in `signature-vectors.json`.
    vector: &'static str,
    /// A preset's name, or the tables of `[verify.custom]`.
    scheme: &'static str,
    headers: &'static [(&'static str, &'static str)],
    url: &'static str,
    body: &'static str,
    /// When the request arrives.
    at: &'static str,
}

const TEST_BODY: &str = r#"{"id":"evt_test","object":"event"}"#;
const ANY_URL: &str = "https://hooks.acme.example/in";
const NOVEMBER_2023: &str = "2023-11-14T22:13:20Z";

const CASES: &[Case] = &[
    Case {
        vector: "standard-webhooks v1",
        scheme: "standard",
        headers: &[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
        ],
        url: ANY_URL,
        body: r#"{"test": 2432232314}"#,
        at: "2021-02-25T15:02:10Z",
    },
    Case {
        vector: "github",
        scheme: "github",
        headers: &[],
        url: ANY_URL,
        body: "Hello, World!",
        at: NOVEMBER_2023,
    },
    Case {
        vector: "slack",
        scheme: "slack",
        headers: &[("x-slack-request-timestamp", "1531420618")],
        url: ANY_URL,
        body: "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
        at: "2018-07-12T18:36:58Z",
    },
    Case {
        vector: "stripe",
        scheme: "stripe",
        headers: &[],
        url: ANY_URL,
        body: TEST_BODY,
        at: NOVEMBER_2023,
    },
    Case {
        vector: "meta",
        scheme: "github",
        headers: &[],
        url: ANY_URL,
        body: TEST_BODY,
        at: NOVEMBER_2023,
    },
    Case {
        vector: "xero",
        scheme: r#"
[verify.custom]
algorithm = "hmac-sha256"
signed    = "{{ body }}"

[verify.custom.signature]
header = "x-xero-signature"
decode = "base64"
"#,
        headers: &[],
        url: ANY_URL,
        body: TEST_BODY,
        at: NOVEMBER_2023,
    },
    Case {
        vector: "linear",
        scheme: r#"
[verify.custom]
algorithm = "hmac-sha256"
signed    = "{{ body }}"

[verify.custom.signature]
header = "Linear-Signature"
decode = "hex"
"#,
        headers: &[],
        url: ANY_URL,
        body: TEST_BODY,
        at: NOVEMBER_2023,
    },
    Case {
        vector: "intercom (sha1)",
        scheme: r#"
[verify.custom]
algorithm = "hmac-sha1"
signed    = "{{ body }}"

[verify.custom.signature]
header = "X-Hub-Signature"
take   = "sha1="
decode = "hex"
"#,
        headers: &[],
        url: ANY_URL,
        body: TEST_BODY,
        at: NOVEMBER_2023,
    },
    Case {
        vector: "zendesk (old page: BODY+TIMESTAMP)",
        scheme: r#"
[verify.custom]
algorithm = "hmac-sha256"
signed    = "{{ body }}{{ timestamp }}"

[verify.custom.signature]
header = "X-Zendesk-Webhook-Signature"
decode = "base64"

[verify.custom.timestamp]
header = "X-Zendesk-Webhook-Signature-Timestamp"
unit   = "rfc3339"
past   = "5m"
future = "1m"
"#,
        headers: &[("x-zendesk-webhook-signature-timestamp", "2021-07-25T10:00:00Z")],
        url: ANY_URL,
        body: r#"{"say": "hello"}"#,
        at: "2021-07-25T10:00:30Z",
    },
    Case {
        vector: "paddle",
        scheme: r#"
[verify.custom]
algorithm = "hmac-sha256"
signed    = "{{ timestamp }}:{{ body }}"

[verify.custom.signature]
header = "Paddle-Signature"
list   = ";"
take   = "h1="
decode = "hex"

[verify.custom.timestamp]
header = "Paddle-Signature"
list   = ";"
take   = "ts="
unit   = "s"
past   = "5s"
future = "5s"
"#,
        headers: &[],
        url: ANY_URL,
        body: TEST_BODY,
        at: "2022-12-20T16:12:57Z",
    },
    Case {
        vector: "convoy advanced",
        scheme: r#"
[verify.custom]
algorithm = "hmac-sha256"
signed    = "{{ timestamp }},{{ body }}"

[verify.custom.signature]
header = "X-Convoy-Signature"
list   = ","
take   = "v1="
decode = "hex"

[verify.custom.timestamp]
header = "X-Convoy-Signature"
list   = ","
take   = "t="
unit   = "s"
past   = "5m"
future = "1m"
"#,
        headers: &[],
        url: ANY_URL,
        body: r#"{"event":"charge.success","amount":1000,"currency":"NGN"}"#,
        at: NOVEMBER_2023,
    },
    Case {
        vector: "zoom event",
        scheme: r#"
[verify.custom]
algorithm = "hmac-sha256"
signed    = "v0:{{ timestamp }}:{{ body }}"

[verify.custom.signature]
header = "x-zm-signature"
take   = "v0="
decode = "hex"

[verify.custom.timestamp]
header = "x-zm-request-timestamp"
unit   = "s"
past   = "5m"
future = "1m"
"#,
        headers: &[("x-zm-request-timestamp", "1700000000")],
        url: ANY_URL,
        body: TEST_BODY,
        at: NOVEMBER_2023,
    },
    Case {
        vector: "hubspot v3 1693657560000",
        scheme: r#"
[verify.custom]
algorithm = "hmac-sha256"
signed    = "{{ method }}{{ url }}{{ body }}{{ timestamp }}"

[verify.custom.signature]
header = "X-HubSpot-Signature-v3"
decode = "base64"

[verify.custom.timestamp]
header = "X-HubSpot-Request-Timestamp"
unit   = "ms"
past   = "5m"
future = "1m"
"#,
        headers: &[("x-hubspot-request-timestamp", "1693657560000")],
        url: "https://www.example.com/webhook_uri",
        body: "{'example_field':'example_value'}",
        at: "2023-09-02T12:26:00Z",
    },
    Case {
        vector: "square sdk",
        scheme: r#"
[verify.custom]
algorithm = "hmac-sha256"
signed    = "{{ url }}{{ body }}"

[verify.custom.signature]
header = "x-square-hmacsha256-signature"
decode = "base64"
"#,
        headers: &[],
        url: "https://webhook.site/679a4f3a-dcfa-49ee-bac5-9d0edad886b9",
        body: r#"{"merchant_id":"MLEFBHHSJGVHD","type":"webhooks.test_notification","event_id":"ac3ac95b-f97d-458c-a6e6-18981597e05f","created_at":"2022-07-13T20:30:59.037339943Z","data":{"type":"webhooks","id":"bc368e64-01aa-407e-b46e-3231809b1129"}}"#,
        at: "2022-07-13T20:31:00Z",
    },
];

/// A vector as published.
struct Vector {
    header: String,
    secret: String,
    signature: String,
}

fn vector(name: &str) -> Vector {
    let all: Value =
        serde_json::from_str(include_str!("../fixtures/signature-vectors.json")).unwrap();
    let found = all.as_array().unwrap().iter().find(|vector| vector["name"] == name).unwrap();
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    // Some secrets have a note behind them.
    let secret = text("secret").split(" (").next().unwrap().to_owned();
    Vector { header: text("header").to_lowercase(), secret, signature: text("expected") }
}

/// The plan as the compiler makes it from what an author writes.
fn compiled(scheme: &str) -> Arc<VerifyPlan> {
    let (name, tables) = if scheme.contains('\n') { ("custom", scheme) } else { (scheme, "") };
    let tables = format!(
        r#"{tables}
[stream.events]
key = "$.id"

[stream.events.webhook]
path   = "/in"
verify = "{name}"
secret = "{{{{ secret.HOOK }}}}"
"#
    );
    let plan = plan_of(&connector_file("signed", &tables));
    Arc::clone(&plan.streams[0].webhook.as_ref().unwrap().verify)
}

/// One request, to be changed.
#[derive(Clone)]
struct Attempt {
    plan: Arc<VerifyPlan>,
    secrets: Vec<String>,
    headers: Vec<(String, String)>,
    url: String,
    body: Vec<u8>,
    at: Timestamp,
}

impl Attempt {
    fn of(case: &Case) -> Self {
        let Vector { header, secret, signature } = vector(case.vector);
        let given = case.headers.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Self {
            plan: compiled(case.scheme),
            secrets: vec![secret],
            headers: given.chain([(header, signature)]).collect(),
            url: case.url.to_owned(),
            body: case.body.into(),
            at: Timestamp::parse_rfc3339(case.at).unwrap(),
        }
    }

    fn signature(&mut self) -> &mut String {
        &mut self.headers.last_mut().unwrap().1
    }

    fn check(&self) -> Result<(), Reject> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let key = |secret: &String| Key::prepare(&self.plan, &Secret::new(secret), None, None);
        let keys: Vec<_> = self.secrets.iter().map(|secret| key(secret).unwrap()).collect();
        let request = RequestParts { method: &Method::POST, url: &self.url, headers: &headers };
        let body = RawBody::new(Bytes::copy_from_slice(&self.body));
        verify(&self.plan, Keyring::of(&keys), &request, body, self.at).map(drop)
    }
}

#[test]
fn every_vector_verifies() {
    for case in CASES {
        assert_eq!(Attempt::of(case).check(), Ok(()), "{}", case.vector);
    }
}

#[test]
fn every_vector_verifies_while_its_secret_is_rotated() {
    for case in CASES {
        let mut attempt = Attempt::of(case);
        // Decodes under every scheme, as base64 and as text.
        attempt.secrets.insert(0, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx".to_owned());
        assert_eq!(attempt.check(), Ok(()), "{}", case.vector);
        attempt.secrets.pop();
        assert_eq!(attempt.check(), Err(Reject::Mismatch), "{}", case.vector);
    }
}

#[test]
fn no_vector_survives_a_changed_byte() {
    for case in CASES {
        let good = Attempt::of(case);
        for index in 0..good.body.len() {
            let mut attempt = good.clone();
            attempt.body[index] ^= 1;
            assert_eq!(attempt.check(), Err(Reject::Mismatch), "{} byte {index}", case.vector);
        }
        let mut longer = good.clone();
        longer.body.push(b' ');
        assert_eq!(longer.check(), Err(Reject::Mismatch), "{}", case.vector);
        let mut empty = good.clone();
        empty.body.clear();
        assert_eq!(empty.check(), Err(Reject::Mismatch), "{}", case.vector);
    }
}

#[test]
fn no_vector_survives_without_its_headers() {
    for case in CASES {
        let good = Attempt::of(case);
        for index in 0..good.headers.len() {
            let mut attempt = good.clone();
            attempt.headers.remove(index);
            assert!(attempt.check().is_err(), "{} without header {index}", case.vector);
        }
        let mut cut = good.clone();
        let shorter = cut.signature().trim_end_matches('=').len() - 4;
        cut.signature().truncate(shorter);
        assert!(cut.check().is_err(), "{}", case.vector);
        let mut keyless = good.clone();
        keyless.secrets.clear();
        assert_eq!(keyless.check(), Err(Reject::NoKey), "{}", case.vector);
    }
}

#[test]
fn timestamps_are_held_to_their_tolerance() {
    for case in CASES {
        let good = Attempt::of(case);
        let Some(timestamp) = &good.plan.timestamp else {
            continue;
        };
        let hour = std::time::Duration::from_hours(1);
        let mut late = good.clone();
        late.at = late.at.plus(timestamp.past + hour);
        assert_eq!(late.check(), Err(Reject::TooOld), "{}", case.vector);
        let mut early = good.clone();
        early.at = early.at.minus(timestamp.future + hour);
        assert_eq!(early.check(), Err(Reject::TooNew), "{}", case.vector);
    }
}

#[test]
fn signatures_over_the_url_depend_on_it() {
    for name in ["hubspot v3 1693657560000", "square sdk"] {
        let case = CASES.iter().find(|case| case.vector == name).unwrap();
        let mut attempt = Attempt::of(case);
        attempt.url.push('?');
        assert_eq!(attempt.check(), Err(Reject::Mismatch), "{name}");
    }
}

/// The weaker scheme that Stripe sends along in test mode is no way in.
#[test]
fn a_v0_signature_of_stripe_is_none() {
    let case = CASES.iter().find(|case| case.vector == "stripe").unwrap();
    let mut attempt = Attempt::of(case);
    let downgraded = attempt.signature().replace("v1=", "v0=");
    *attempt.signature() = downgraded;
    assert_eq!(attempt.check(), Err(Reject::NoSignature));
}

/// Standard Webhooks lists signatures, with versions that are not ours among them.
#[test]
fn a_list_of_standard_signatures_is_searched() {
    let case = &CASES[0];
    let mut attempt = Attempt::of(case);
    let good = attempt.signature().clone();
    *attempt.signature() = format!("v1a,AAAA v1,{} {good}", "AAAA".repeat(11));
    assert_eq!(attempt.check(), Ok(()));
    *attempt.signature() = format!("v1a,{}", &good[3..]);
    assert_eq!(attempt.check(), Err(Reject::NoSignature));
}

/// Shopify publishes the construction (base64 of HMAC-SHA256 over the body) and no vector; Xero's
/// is the same under another header.
#[test]
fn shopify_is_base64_over_the_body() {
    let vector = vector("xero");
    let mut attempt = Attempt {
        plan: compiled("shopify"),
        secrets: vec![vector.secret],
        headers: vec![("x-shopify-hmac-sha256".to_owned(), vector.signature)],
        url: ANY_URL.to_owned(),
        body: TEST_BODY.into(),
        at: Timestamp(0),
    };
    assert_eq!(attempt.check(), Ok(()));
    attempt.body[0] ^= 1;
    assert_eq!(attempt.check(), Err(Reject::Mismatch));
}
