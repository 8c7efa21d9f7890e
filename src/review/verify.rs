//! Verification: whether requests that were taken still are, and whether others now would be.

use std::time::Duration;

use super::{
    fields::{self, Shape},
    pen::{At, Pen},
    rule, say,
};
use crate::plan::{
    Algorithm, ChallengePlan, Encoding, KeyPlan, SignaturePlan, SignedPart, TimeUnit,
    TimestampPlan, VerifyPlan,
};

/// What another way of signing does.
const REFUSED: &str = "requests that are signed the old way are refused";

pub(super) fn compare(pen: &mut Pen<'_>, at: &At, old: &VerifyPlan, new: &VerifyPlan) {
    let VerifyPlan { name, algorithm, signed, on_fail, key, signature, timestamp, challenge } = new;
    let place = |key: &str| -> Vec<String> {
        let own = format!("/verify.{name}{key}");
        vec![own, "webhook.verify".to_owned()]
    };
    let mut scheme: Vec<String> = Vec::new();
    if old.algorithm != *algorithm {
        scheme.push(format!("{} → {}", word(old.algorithm), word(*algorithm)));
    }
    if old.signed != *signed {
        scheme.push(format!("signed {} → {}", parts(&old.signed), parts(signed)));
    }
    if old.key != *key {
        let KeyPlan { strip: _, decode: _ } = key;
        scheme.push("the key is made of the secret otherwise".to_owned());
    }
    scheme.extend(signatures((old.signature.as_ref(), signature.as_ref())));
    scheme.extend(stamps((old.timestamp.as_ref(), timestamp.as_ref())));
    if !scheme.is_empty() {
        let is_open = is_open(new) && !is_open(old);
        let (rule, effect) = if is_open {
            let effect = if *algorithm == Algorithm::None {
                "whoever knows the path may post events"
            } else {
                "whoever captured a request may change its body"
            };
            (rule::VERIFY_OPEN, effect)
        } else {
            (rule::VERIFY, REFUSED)
        };
        let table = format!("/verify.{name}");
        let mut keys = ["webhook.verify", table.as_str()];
        if old.name == *name {
            keys.reverse();
        }
        pen.note_at(at, "webhook.verify", &keys, rule, scheme.join("; "), effect);
    }
    if old.on_fail != *on_fail {
        let what = format!("{} → {on_fail}", old.on_fail);
        tolerance(pen, at, "webhook.verify.on_fail", &place(".on_fail"), what, "");
    }
    if let (Some(old), Some(new)) = (&old.timestamp, timestamp) {
        tolerances(pen, at, name, old, new);
    }
    challenges(pen, at, name, (old.challenge.as_ref(), challenge.as_ref()));
}

/// Whether anyone may post, or change what was posted.
fn is_open(plan: &VerifyPlan) -> bool {
    let binds = |part: &SignedPart| matches!(part, SignedPart::Body | SignedPart::BodySha256);
    match plan.algorithm {
        Algorithm::None => true,
        Algorithm::HmacSha1 | Algorithm::HmacSha256 | Algorithm::HmacSha512 => {
            !plan.signed.iter().any(binds)
        }
        Algorithm::Token | Algorithm::Basic => false,
    }
}

fn signatures((old, new): (Option<&SignaturePlan>, Option<&SignaturePlan>)) -> Option<String> {
    if old == new {
        return None;
    }
    Some(match (old, new) {
        (Some(old), Some(new)) => {
            let SignaturePlan { header, list: _, take: _, decode } = new;
            if old.header != *header {
                format!("signature in `{header}`, was in `{}`", old.header)
            } else if old.decode != *decode {
                format!("signature in {}, was in {}", encoding(*decode), encoding(old.decode))
            } else {
                format!("signature found otherwise in `{header}`")
            }
        }
        (None, Some(new)) => format!("signature in `{}`", new.header),
        (Some(old), None) => format!("no signature, was in `{}`", old.header),
        (None, None) => return None,
    })
}

fn stamps((old, new): (Option<&TimestampPlan>, Option<&TimestampPlan>)) -> Option<String> {
    let place = |plan: &TimestampPlan| {
        let TimestampPlan { header, list, take, unit, past: _, future: _ } = plan.clone();
        (header, list, take, unit)
    };
    match (old, new) {
        (None, None) => None,
        (None, Some(new)) => Some(format!("time of signing in `{}` is checked", new.header)),
        (Some(old), None) => Some(format!("time of signing in `{}` is not checked", old.header)),
        (Some(old), Some(new)) if place(old) == place(new) => None,
        (Some(old), Some(new)) if old.unit != new.unit => {
            Some(format!("time of signing in {}, was in {}", unit(new.unit), unit(old.unit)))
        }
        (Some(old), Some(new)) => Some(format!(
            "time of signing found otherwise in `{}`, was `{}`",
            new.header, old.header
        )),
    }
}

fn tolerances(pen: &mut Pen<'_>, at: &At, name: &str, old: &TimestampPlan, new: &TimestampPlan) {
    let spans: [(&str, Duration, Duration); 2] =
        [("past", old.past, new.past), ("future", old.future, new.future)];
    for (key, was, is) in spans {
        if was != is {
            let what = format!("{} → {}", say::duration(was), say::duration(is));
            let effect = if is < was {
                "requests whose signature is further off are refused"
            } else {
                "a captured request can be sent again for longer"
            };
            let places = [format!("/verify.{name}.timestamp.{key}"), "webhook.verify".to_owned()];
            let key = format!("webhook.verify.timestamp.{key}");
            tolerance(pen, at, &key, &places, what, effect);
        }
    }
}

fn tolerance(pen: &mut Pen<'_>, at: &At, key: &str, places: &[String], what: String, effect: &str) {
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    pen.note_at(at, key, &places, rule::VERIFY_TOLERANCE, what, effect);
}

fn challenges(
    pen: &mut Pen<'_>,
    at: &At,
    name: &str,
    (old, new): (Option<&ChallengePlan>, Option<&ChallengePlan>),
) {
    let what = match (old, new) {
        (None, None) => return,
        (None, Some(_)) => "is answered",
        (Some(_), None) => "is no longer answered",
        (Some(old), Some(new)) => {
            let ChallengePlan { when, json } = new;
            let shapes = (&Shape::of(&old.json), &Shape::of(json));
            let same = pen.same(old.when.source(), when.source())
                && fields::differences(pen, shapes).is_empty();
            if same {
                return;
            }
            "is answered otherwise"
        }
    };
    let own = format!("/verify.{name}.challenge");
    let effect = "it matters while a producer is set up";
    let key = "webhook.verify.challenge";
    pen.note_at(at, key, &[&own, "webhook.verify"], rule::CHALLENGE, what, effect);
}

fn word(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HmacSha1 => "hmac-sha1",
        Algorithm::HmacSha256 => "hmac-sha256",
        Algorithm::HmacSha512 => "hmac-sha512",
        Algorithm::Token => "token",
        Algorithm::Basic => "basic",
        Algorithm::None => "none",
    }
}

fn parts(parts: &[SignedPart]) -> String {
    let text: String = parts
        .iter()
        .map(|part| match part {
            SignedPart::Text(text) => text.clone(),
            SignedPart::Body => "{{ body }}".to_owned(),
            SignedPart::BodySha256 => "{{ body_sha256 }}".to_owned(),
            SignedPart::Timestamp => "{{ timestamp }}".to_owned(),
            SignedPart::Url => "{{ url }}".to_owned(),
            SignedPart::Method => "{{ method }}".to_owned(),
            SignedPart::Header(name) => format!("{{{{ request.headers['{name}'] }}}}"),
        })
        .collect();
    if text.is_empty() { "nothing".to_owned() } else { say::quoted(&text) }
}

fn encoding(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Raw => "raw text",
        Encoding::Hex => "hex",
        Encoding::Base64 => "base64",
        Encoding::Base64Url => "base64url",
    }
}

fn unit(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Seconds => "seconds",
        TimeUnit::Milliseconds => "milliseconds",
        TimeUnit::Rfc3339 => "RFC 3339",
    }
}
