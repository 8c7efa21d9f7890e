//! Verification: whether requests that were taken still are, and whether others now would be.

use std::time::Duration;

use super::{
    fields::{self, Shape},
    pen::{At, Pen},
    rule, say,
};
use crate::map::Expr;
use crate::plan::{
    Algorithm, BodyHashPlan, CertificatePlan, ChallengeAnswer, ChallengePlan, Encoding,
    HostPattern, JwtPlan, KeyPlan, KeysPlan, Located, SignaturePlan, SignedPart, TimeUnit,
    TimestampPlan, VerifyPlan, VisitPlan,
};

/// What another way of signing does.
const REFUSED: &str = "requests that are signed the old way are refused";

pub(super) fn compare(pen: &mut Pen<'_>, at: &At, old: &VerifyPlan, new: &VerifyPlan) {
    // What a provider takes for an acknowledgement is part of the webhook's `reply`.
    let VerifyPlan {
        name,
        algorithm,
        signed,
        urls,
        covers_body,
        body_hash,
        require,
        once,
        on_fail,
        reply: _,
        key,
        keys,
        jwt,
        certificate,
        signature,
        timestamp,
        challenges: answers,
    } = new;
    let place = |key: &str| -> Vec<String> {
        let own = format!("/verify.{name}{key}");
        vec![own, "webhook.verify".to_owned()]
    };
    let mut scheme: Vec<String> = Vec::new();
    if old.algorithm != *algorithm {
        scheme.push(format!("{} → {}", old.algorithm.word(), algorithm.word()));
    }
    if old.signed != *signed {
        scheme.push(format!("signed {} → {}", parts(&old.signed), parts(signed)));
    }
    if old.urls != *urls {
        scheme.push("the URL is tried in other forms".to_owned());
    }
    if old.key != *key {
        let KeyPlan { strip: _, decode: _ } = key;
        scheme.push("the key is made of the secret otherwise".to_owned());
    }
    scheme.extend(fetched(pen, (old.keys.as_ref(), keys.as_ref())));
    scheme.extend(tokens((old.jwt.as_ref(), jwt.as_ref())));
    scheme.extend(certificates((old.certificate.as_ref(), certificate.as_ref())));
    scheme.extend(digests((old.body_hash.as_ref(), body_hash.as_ref())));
    scheme.extend(signatures((old.signature.as_ref(), signature.as_ref())));
    scheme.extend(stamps((old.timestamp.as_ref(), timestamp.as_ref())));
    for (key, (old, new)) in [("require", (&old.require, require)), ("once", (&old.once, once))] {
        let (old, new) = (old.as_ref().map(Expr::source), new.as_ref().map(Expr::source));
        match (old, new) {
            (Some(old), Some(new)) if pen.same(old, new) => {}
            (None, None) => {}
            (_, Some(new)) => scheme.push(format!("`{key}` is {}", say::quoted(new))),
            (Some(old), None) => scheme.push(format!("`{key}` is gone, was {}", say::quoted(old))),
        }
    }
    if old.covers_body != *covers_body && old.leaves_body_open() != new.leaves_body_open() {
        let what = if *covers_body { "the body is signed" } else { "the body is not signed" };
        scheme.push(what.to_owned());
    }
    if !scheme.is_empty() {
        let (rule, effect) = effect_of(old, new);
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
    challenges(pen, at, name, (&old.challenges, answers));
}

/// Whether somebody gets in now who did not.
fn effect_of(old: &VerifyPlan, new: &VerifyPlan) -> (rule::Rule, &'static str) {
    let drops = |key: fn(&VerifyPlan) -> bool| key(old) && !key(new);
    if new.leaves_body_open() && !old.leaves_body_open() {
        let effect = if new.algorithm == Algorithm::None {
            "whoever knows the path may post events"
        } else {
            "whoever captured a request may change its body"
        };
        return (rule::VERIFY_OPEN, effect);
    }
    if drops(|plan| plan.once.is_some()) {
        return (rule::VERIFY_OPEN, "whoever captured a request may send it with another body");
    }
    if drops(|plan| plan.timestamp.is_some()) && new.once.is_none() {
        return (rule::VERIFY_OPEN, "whoever captured a request may send it again at any time");
    }
    if drops(|plan| plan.require.is_some()) {
        return (rule::VERIFY_OPEN, "requests are taken that were refused");
    }
    (rule::VERIFY, REFUSED)
}

fn fetched(pen: &Pen<'_>, (old, new): (Option<&KeysPlan>, Option<&KeysPlan>)) -> Option<String> {
    let hosts = |hosts: &[HostPattern]| {
        hosts.iter().map(|HostPattern(host)| host.as_str()).collect::<Vec<_>>().join(", ")
    };
    match (old, new) {
        (None, None) => None,
        (None, Some(new)) => Some(format!("keys are fetched from {}", hosts(&new.hosts))),
        (Some(_), None) => Some("keys are no longer fetched".to_owned()),
        (Some(old), Some(new)) => {
            let KeysPlan { url, hosts: allowed, body, form, at, ttl } = new;
            if old.hosts != *allowed {
                let (was, is) = (hosts(&old.hosts), hosts(allowed));
                return Some(format!("keys are fetched from {is}, were from {was}"));
            }
            let source = |at: &Option<Expr>| at.as_ref().map(|at| at.source().to_owned());
            let bodies = |body: &[(String, Expr)]| {
                body.iter().map(|(name, e)| format!("{name}={}", e.source())).collect::<Vec<_>>()
            };
            let same = pen.same(old.url.source(), url.source())
                && bodies(&old.body) == bodies(body)
                && old.form == *form
                && source(&old.at) == source(at)
                && old.ttl == *ttl;
            (!same).then(|| "keys are fetched otherwise".to_owned())
        }
    }
}

fn tokens((old, new): (Option<&JwtPlan>, Option<&JwtPlan>)) -> Option<String> {
    let words = |plan: &JwtPlan| {
        plan.algorithms.iter().map(|algorithm| algorithm.word()).collect::<Vec<_>>().join(", ")
    };
    match (old, new) {
        (Some(old), Some(new)) if old == new => None,
        (Some(old), Some(new)) if old.algorithms != new.algorithms => {
            Some(format!("tokens by {}, were by {}", words(new), words(old)))
        }
        (Some(_), Some(new)) => {
            let JwtPlan { algorithms: _, issuer, audience } = new;
            let shown =
                |text: &Option<String>| text.clone().unwrap_or_else(|| "anybody".to_owned());
            Some(format!("tokens of {} for {}", shown(issuer), shown(audience)))
        }
        // That the algorithm is another one says it all.
        _ => None,
    }
}

fn certificates(
    (old, new): (Option<&CertificatePlan>, Option<&CertificatePlan>),
) -> Option<String> {
    let (Some(old), Some(new)) = (old, new) else { return None };
    let CertificatePlan { header, form, allow } = new;
    if old.allow != *allow {
        return Some("other certificates may post".to_owned());
    }
    let same = old.header == *header && old.form == *form;
    (!same).then(|| format!("the certificate is looked for otherwise, in `{header}`"))
}

fn digests((old, new): (Option<&BodyHashPlan>, Option<&BodyHashPlan>)) -> Option<String> {
    match (old, new) {
        (old, new) if old == new => None,
        (_, Some(BodyHashPlan { at, decode: _ })) => {
            Some(format!("the body's digest is checked, in `{}`", at.place.words()))
        }
        (_, None) => Some("the body's digest is not checked".to_owned()),
    }
}

fn signatures((old, new): (Option<&SignaturePlan>, Option<&SignaturePlan>)) -> Option<String> {
    if old == new {
        return None;
    }
    Some(match (old, new) {
        (Some(old), Some(new)) => {
            let SignaturePlan { at, decode, is_raw_ecdsa: _ } = new;
            let Located { place, list: _, take: _ } = at;
            if old.at.place != *place {
                format!("signature in `{}`, was in `{}`", place.words(), old.at.place.words())
            } else if old.decode != *decode {
                format!("signature in {}, was in {}", encoding(*decode), encoding(old.decode))
            } else {
                format!("signature found otherwise in `{}`", place.words())
            }
        }
        (None, Some(new)) => format!("signature in `{}`", new.at.place.words()),
        (Some(old), None) => format!("no signature, was in `{}`", old.at.place.words()),
        (None, None) => return None,
    })
}

fn stamps((old, new): (Option<&TimestampPlan>, Option<&TimestampPlan>)) -> Option<String> {
    let place = |plan: &TimestampPlan| {
        let TimestampPlan { at, unit, past: _, future: _ } = plan.clone();
        (at, unit)
    };
    let words = |plan: &TimestampPlan| plan.at.place.words();
    match (old, new) {
        (None, None) => None,
        (None, Some(new)) => Some(format!("time of signing in `{}` is checked", words(new))),
        (Some(old), None) => Some(format!("time of signing in `{}` is not checked", words(old))),
        (Some(old), Some(new)) if place(old) == place(new) => None,
        (Some(old), Some(new)) if old.unit != new.unit => {
            Some(format!("time of signing in {}, was in {}", unit(new.unit), unit(old.unit)))
        }
        (Some(old), Some(new)) => Some(format!(
            "time of signing found otherwise in `{}`, was `{}`",
            words(new),
            words(old)
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
    (old, new): (&[ChallengePlan], &[ChallengePlan]),
) {
    let same = old.len() == new.len()
        && old.iter().zip(new).all(|(old, new)| same_challenge(pen, old, new));
    if same {
        return;
    }
    let what = match (old, new) {
        ([], _) => "is answered",
        (_, []) => "is no longer answered",
        _ => "is answered otherwise",
    };
    let own = format!("/verify.{name}.challenge");
    let effect = "it matters while a producer is set up";
    let key = "webhook.verify.challenge";
    pen.note_at(at, key, &[&own, "webhook.verify"], rule::CHALLENGE, what, effect);
}

fn same_challenge(pen: &Pen<'_>, old: &ChallengePlan, new: &ChallengePlan) -> bool {
    let ChallengePlan { when, verified, method, verify_token, sign, visit, status, answer } = new;
    let text = |expr: &Option<Expr>| {
        expr.as_ref().map(|expr| expr.source().to_owned()).unwrap_or_default()
    };
    let signed = |sign: &Option<(Expr, Encoding)>| {
        sign.as_ref().map(|(expr, encoding)| (expr.source().to_owned(), *encoding))
    };
    let visited = |visit: &Option<VisitPlan>| {
        visit.as_ref().map(|VisitPlan { url, hosts }| (url.source().to_owned(), hosts.clone()))
    };
    let same_answer = match (&old.answer, answer) {
        (ChallengeAnswer::Empty, ChallengeAnswer::Empty) => true,
        (ChallengeAnswer::Text(old), ChallengeAnswer::Text(new)) => {
            pen.same(old.source(), new.source())
        }
        (ChallengeAnswer::Json(old), ChallengeAnswer::Json(new)) => {
            fields::differences(pen, (&Shape::of(old), &Shape::of(new))).is_empty()
        }
        _ => false,
    };
    same_answer
        && pen.same(old.when.source(), when.source())
        && (old.verified, &old.method, old.status) == (*verified, method, *status)
        && pen.same(&text(&old.verify_token), &text(verify_token))
        && signed(&old.sign) == signed(sign)
        && visited(&old.visit) == visited(visit)
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
            SignedPart::BodyCrc32 => "{{ body_crc32 }}".to_owned(),
            SignedPart::Secret => "{{ secret }}".to_owned(),
            SignedPart::SortedForm => "{{ sorted_form }}".to_owned(),
            SignedPart::Field(expr) => expr.source().to_owned(),
            SignedPart::Fields(names) => format!("{{{{ body_fields({}) }}}}", names.join(", ")),
        })
        .collect();
    if text.is_empty() { "nothing".to_owned() } else { say::quoted(&text) }
}

fn encoding(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Raw => "raw text",
        Encoding::Pem => "PEM",
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
