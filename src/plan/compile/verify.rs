//! `[verify.NAME]` and the presets: what is signed is lowered to parts, and must bind the body.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    super::{
        Algorithm, ChallengePlan, Encoding, KeyPlan, SignaturePlan, SignedPart, TimeUnit,
        TimestampPlan, VerifyPlan,
    },
    auth::check_header,
    context::{Context, within},
    destination::duration,
    sites,
};
use crate::{
    definition::{
        self,
        connector::ConnectorDef,
        kinds::{Expression, Plain, Prose},
        presets::PRESETS,
        table::{At, Given, Loc, list_of},
        verify::{AlgorithmDef, ChallengeDef, EncodingDef, TimestampDef, UnitDef, VerifyDef},
    },
    diagnostic::{codes, nearest},
    map::Tree,
};

const DEFAULT_PAST: Duration = Duration::from_mins(5);
const DEFAULT_FUTURE: Duration = Duration::from_mins(1);
const DEFAULT_STATUS: u16 = 401;

/// The presets that need no table at all.
const BUILT_IN: &[(&str, Algorithm)] = &[("basic", Algorithm::Basic), ("none", Algorithm::None)];

/// Compiles every table of the file, so that one that no stream uses is checked, too.
pub(super) fn check_all(context: &mut Context<'_>, body: &ConnectorDef) {
    for (name, def) in body.verify.value().into_iter().flat_map(|named| &named.0) {
        let plan = compile(context, name, &def.value).map(Arc::new);
        context.verifies.push((name.clone(), plan));
    }
}

/// The verification of that name: the file's own, or a preset.
pub(super) fn resolve(context: &mut Context<'_>, given: &At<Plain>) -> Option<Arc<VerifyPlan>> {
    let name = given.value.0.as_str();
    // What is wrong with the file's own has been reported once.
    if let Some((_, own)) = context.verifies.iter().find(|(known, _)| known == name) {
        return own.clone();
    }
    if let Some(preset) = presets().get(name) {
        let text = PRESETS.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| *text);
        context.hash.text(text);
        return Some(Arc::clone(preset));
    }
    let own: Vec<String> = context.verifies.iter().map(|(name, _)| name.clone()).collect();
    let known = own.iter().map(String::as_str).chain(presets().keys().copied());
    context
        .unknown(codes::UNKNOWN_VERIFY, given.at, "verify", name, known)
        .help(format!("any other scheme is a table of its own: [verify.{name}]"));
    None
}

/// The names that `verify` takes without a table.
pub(super) fn preset_names() -> Vec<&'static str> {
    presets().keys().copied().collect()
}

/// The built-in ones, compiled once for all.
fn presets() -> &'static BTreeMap<&'static str, Arc<VerifyPlan>> {
    static COMPILED: OnceLock<BTreeMap<&'static str, Arc<VerifyPlan>>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let bare = BUILT_IN.iter().map(|(name, algorithm)| {
            let plan = VerifyPlan {
                name: (*name).to_owned(),
                algorithm: *algorithm,
                signed: Vec::new(),
                on_fail: DEFAULT_STATUS,
                key: KeyPlan::default(),
                signature: None,
                timestamp: None,
                challenge: None,
            };
            (*name, Arc::new(plan))
        });
        let files = PRESETS.iter().filter_map(|(name, text)| {
            let (plan, _) = preset(name, text);
            Some((*name, Arc::new(plan?)))
        });
        bare.chain(files).collect()
    })
}

/// A preset, and what is wrong with its file; a test sees to it that nothing is.
pub(super) fn preset(name: &str, text: &str) -> (Option<VerifyPlan>, Vec<String>) {
    let path = format!("integrations/verify/{name}.toml");
    let sources = OneFile(Arc::new(crate::diagnostic::SourceFile {
        path: path.clone().into(),
        text: text.to_owned(),
    }));
    let mut context = Context::new(Path::new(""), &sources);
    context.open(Path::new(&path));
    let read = definition::read_presets(0, text);
    context.report_all(read.findings);
    let def = read.definition.verify.value().and_then(|named| named.find(name));
    let plan = def.and_then(|def| compile(&mut context, name, &def.value));
    (plan, context.messages())
}

/// A single file that is at hand already.
struct OneFile(Arc<crate::diagnostic::SourceFile>);

impl super::Sources for OneFile {
    fn read(&self, _path: &Path) -> Option<Arc<crate::diagnostic::SourceFile>> {
        Some(Arc::clone(&self.0))
    }
}

fn compile(context: &mut Context<'_>, name: &str, def: &VerifyDef) -> Option<VerifyPlan> {
    let path = format!("verify.{name}");
    let algorithm = *def.algorithm.value()?;
    check_tables(context, name, def, algorithm);
    let signed = signed(context, name, def, algorithm);
    let signature = match def.signature.value() {
        Some(signature) => Some(SignaturePlan {
            header: lower_header(context, &signature.header)?,
            list: separator(&signature.list),
            take: signature.take.value().map(|take| take.0.clone()),
            decode: encoding(&signature.decode, default_encoding(algorithm)),
        }),
        None => None,
    };
    let timestamp = match def.timestamp.value() {
        Some(timestamp) => Some(timestamp_plan(context, timestamp)?),
        None => None,
    };
    let challenge = match def.challenge.value() {
        Some(challenge) => Some(challenge_plan(context, challenge, &path)?),
        None => None,
    };
    let key = def.key.value();
    Some(VerifyPlan {
        name: name.to_owned(),
        algorithm: algorithm_of(algorithm),
        signed: signed?,
        on_fail: def.on_fail.value().map_or(DEFAULT_STATUS, |status| status.0 as u16),
        key: KeyPlan {
            strip: key.and_then(|key| key.strip.value()).map(|strip| strip.0.clone()),
            decode: key.map_or(Encoding::Raw, |key| encoding(&key.decode, Encoding::Raw)),
        },
        signature,
        timestamp,
        challenge,
    })
}

/// Which tables an algorithm needs, and which mean nothing to it.
fn check_tables(context: &mut Context<'_>, name: &str, def: &VerifyDef, algorithm: AlgorithmDef) {
    let needs_signature = !matches!(algorithm, AlgorithmDef::Basic | AlgorithmDef::None);
    if needs_signature && def.signature.is_absent() {
        context
            .error(
                codes::VERIFY_KEYS,
                def.at,
                format!("nothing says where the signature stands in [verify.{name}]"),
                format!("\"{}\" needs a table [verify.{name}.signature]", algorithm.word()),
            )
            .help("its `header` names the header with the signature or the token");
    }
    let unused: &[&str] = match algorithm {
        AlgorithmDef::HmacSha1 | AlgorithmDef::HmacSha256 | AlgorithmDef::HmacSha512 => &[],
        AlgorithmDef::Token => &["signed", "covers_body", "timestamp"],
        AlgorithmDef::Basic => &["signed", "covers_body", "timestamp", "signature"],
        AlgorithmDef::None => &["signed", "covers_body", "timestamp", "signature", "key"],
    };
    for (key, at) in def.given().into_iter().filter(|(key, _)| unused.contains(key)) {
        context.error(
            codes::MISPLACED_KEY,
            at,
            format!("`{key}` has no effect here"),
            format!("\"{}\" does not use it", algorithm.word()),
        );
    }
}

fn algorithm_of(algorithm: AlgorithmDef) -> Algorithm {
    match algorithm {
        AlgorithmDef::HmacSha1 => Algorithm::HmacSha1,
        AlgorithmDef::HmacSha256 => Algorithm::HmacSha256,
        AlgorithmDef::HmacSha512 => Algorithm::HmacSha512,
        AlgorithmDef::Token => Algorithm::Token,
        AlgorithmDef::Basic => Algorithm::Basic,
        AlgorithmDef::None => Algorithm::None,
    }
}

fn default_encoding(algorithm: AlgorithmDef) -> Encoding {
    match algorithm {
        AlgorithmDef::HmacSha1 | AlgorithmDef::HmacSha256 | AlgorithmDef::HmacSha512 => {
            Encoding::Hex
        }
        _ => Encoding::Raw,
    }
}

fn encoding(given: &Given<EncodingDef>, default: Encoding) -> Encoding {
    match given.value() {
        Some(EncodingDef::Raw) => Encoding::Raw,
        Some(EncodingDef::Hex) => Encoding::Hex,
        Some(EncodingDef::Base64) => Encoding::Base64,
        Some(EncodingDef::Base64Url) => Encoding::Base64Url,
        None => default,
    }
}

fn separator(given: &Given<Prose>) -> Option<String> {
    given.value().map(|list| list.0.clone()).filter(|list| !list.is_empty())
}

fn lower_header(context: &mut Context<'_>, given: &Given<Plain>) -> Option<String> {
    let name = given.get()?;
    check_header(context, &name.value.0, name.at).then(|| name.value.0.to_ascii_lowercase())
}

fn timestamp_plan(context: &mut Context<'_>, def: &TimestampDef) -> Option<TimestampPlan> {
    Some(TimestampPlan {
        header: lower_header(context, &def.header)?,
        list: separator(&def.list),
        take: def.take.value().map(|take| take.0.clone()),
        unit: match def.unit.value() {
            Some(UnitDef::Milliseconds) => TimeUnit::Milliseconds,
            Some(UnitDef::Rfc3339) => TimeUnit::Rfc3339,
            _ => TimeUnit::Seconds,
        },
        past: duration(&def.past, DEFAULT_PAST),
        future: duration(&def.future, DEFAULT_FUTURE),
    })
}

fn challenge_plan(
    context: &mut Context<'_>,
    def: &ChallengeDef,
    path: &str,
) -> Option<ChallengePlan> {
    let when = context.maybe(&def.when, &sites::CHALLENGE_WHEN, &format!("{path}.challenge.when"));
    let fields = &def.json.value()?.0;
    let json = context.fields(fields, &sites::CHALLENGE, &format!("{path}.challenge.json"));
    Some(ChallengePlan { when: when?, json: Tree::Table(json?) })
}

/// What is signed, in parts. Without `signed`: the body.
fn signed(
    context: &mut Context<'_>,
    name: &str,
    def: &VerifyDef,
    algorithm: AlgorithmDef,
) -> Option<Vec<SignedPart>> {
    if matches!(algorithm, AlgorithmDef::Token | AlgorithmDef::Basic | AlgorithmDef::None) {
        return Some(Vec::new());
    }
    let Some(given) = def.signed.get() else {
        if let Some(timestamp) = def.timestamp.get() {
            unsigned_timestamp(context, timestamp.key);
        }
        return def.signed.is_absent().then(|| vec![SignedPart::Body]);
    };
    let parts = parts(context, given)?;
    let binds = parts.iter().any(|part| matches!(part, SignedPart::Body | SignedPart::BodySha256));
    if !binds && def.covers_body.value() != Some(&false) {
        context
            .error(codes::BODY_NOT_SIGNED, given.at, "`signed` omits the body", "anyone could change the body")
            .help("add {{ body }} or {{ body_sha256 }}; if the provider really does not sign it, say covers_body = false");
    }
    match (parts.contains(&SignedPart::Timestamp), def.timestamp.get()) {
        (true, None) if def.timestamp.is_absent() => {
            context
                .error(
                    codes::VERIFY_KEYS,
                    given.at,
                    "nothing says where the timestamp stands",
                    "`timestamp` is used here",
                )
                .help(format!("add a table [verify.{name}.timestamp] with its `header`"));
        }
        (false, Some(timestamp)) => unsigned_timestamp(context, timestamp.key),
        _ => {}
    }
    Some(parts)
}

fn unsigned_timestamp(context: &mut Context<'_>, at: Loc) {
    context
        .error(
            codes::UNSIGNED_TIMESTAMP,
            at,
            "the timestamp is checked but not signed",
            "anyone could change it",
        )
        .help("if the provider signs it, add {{ timestamp }} to `signed`");
}

const PARTS: &[&str] = &["body", "body_sha256", "timestamp", "url", "method", "request"];

/// Lowers a template of known parts.
fn parts(context: &mut Context<'_>, given: &At<Expression>) -> Option<Vec<SignedPart>> {
    let text = given.value.text.as_str();
    let mut parts = Vec::new();
    let mut at = 0;
    let mut complete = true;
    while let Some(open) = text[at..].find("{{").map(|open| at + open) {
        if open > at {
            parts.push(SignedPart::Text(text[at..open].to_owned()));
        }
        let Some(close) = text[open..].find("}}").map(|close| open + close) else {
            let place = within(given, open..text.len());
            context.error(
                codes::BAD_TEMPLATE,
                place,
                "`{{` is never closed",
                "expected `}}` after this",
            );
            return None;
        };
        if let Some(part) = part(text[open + 2..close].trim()) {
            parts.push(part);
        } else {
            unknown_part(context, given, open + 2..close);
            complete = false;
        }
        at = close + 2;
    }
    if at < text.len() {
        parts.push(SignedPart::Text(text[at..].to_owned()));
    }
    complete.then_some(parts)
}

fn unknown_part(context: &mut Context<'_>, given: &At<Expression>, range: std::ops::Range<usize>) {
    let text = &given.value.text[range.clone()];
    let inner = text.trim();
    let start = range.start + (text.len() - text.trim_start().len());
    let label = match nearest(inner, PARTS.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("expected one of {}", list_of(PARTS.iter().copied())),
    };
    context
        .error(
            codes::BAD_SIGNED,
            within(given, start..start + inner.len()),
            format!("`{}` cannot be signed", inner.escape_debug()),
            label,
        )
        .help("parts of the request are `request.headers['x-name']`, `url` and `method`; filters are not applied here");
}

fn part(inner: &str) -> Option<SignedPart> {
    Some(match inner {
        "body" => SignedPart::Body,
        "body_sha256" => SignedPart::BodySha256,
        "timestamp" => SignedPart::Timestamp,
        "url" | "request.url" => SignedPart::Url,
        "method" | "request.method" => SignedPart::Method,
        _ => {
            let header = inner.strip_prefix("request.headers")?;
            let name = if let Some(name) = header.strip_prefix('.') {
                name
            } else {
                let quoted = header.strip_prefix('[')?.strip_suffix(']')?.trim();
                let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
                quoted.strip_prefix(quote)?.strip_suffix(quote)?
            };
            let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
            SignedPart::Header(name.as_str().to_owned())
        }
    })
}
