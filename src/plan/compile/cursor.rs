//! `cursor`: that it can move, and that a request uses it.

use jiff::{civil, fmt::strtime};

use super::{
    super::{CursorFormat, CursorPlan, CursorStart, Sorted},
    context::Context,
    poll::Uses,
    sites,
};
use crate::{
    definition::{
        collections::{OneOrMany, items},
        cursor::{CursorDef, SortedDef},
        kinds::{Moment, Plain},
        table::{At, Given, list_of},
        units,
    },
    diagnostic::{codes, nearest},
};

const FORMATS: &[&str] = &["rfc3339", "epoch_s", "epoch_ms", "integer", "string"];

pub(super) fn compile(
    context: &mut Context<'_>,
    given: &At<CursorDef>,
    uses: Option<&Uses>,
    path: &str,
) -> Option<CursorPlan> {
    let def = &given.value;
    let formats = formats(context, &def.format)?;
    let format = formats.first().cloned().unwrap_or(CursorFormat::Rfc3339);
    let field = context.maybe(&def.field, &sites::RECORD, &format!("{path}.cursor.field"));
    let start = def.start.get().and_then(|start| bound_of(context, "start", start, &formats));
    let until = def.until.get().and_then(|until| bound_of(context, "until", until, &formats));
    check_ends(context, def, &format);
    check_used(context, given, uses);
    check_keys(context, def, &format);
    if !def.field.is_absent() && field.is_none() {
        return None;
    }
    Some(CursorPlan {
        field,
        start,
        until,
        oldest: def.oldest.value().map(|span| span.0),
        start_param: def.start_param.value().map(|param| param.0.clone()),
        end_param: def.end_param.value().map(|param| param.0.clone()),
        window: def.window.value().map(|span| span.0),
        lookback: def.lookback.value().map(|span| span.0),
        sorted: match def.sorted.value() {
            None => Sorted::No,
            Some(SortedDef::Asc) => Sorted::Ascending,
            Some(SortedDef::Desc) => Sorted::Descending,
        },
        filter: def.filter.value().copied().unwrap_or(false),
        format,
        also: formats.into_iter().skip(1).collect(),
    })
}

/// The formats, the one to send first; `None` where one is wrong.
fn formats(
    context: &mut Context<'_>,
    given: &Given<OneOrMany<Plain>>,
) -> Option<Vec<CursorFormat>> {
    if matches!(given, Given::Invalid(_)) {
        return None;
    }
    let items = items(given);
    if let (Some(given), []) = (given.get(), items) {
        let label = "expected at least one format";
        context.error(codes::BAD_CURSOR, given.at, "`format` is an empty list", label);
        return None;
    }
    let formats: Vec<Option<CursorFormat>> =
        items.iter().map(|item| format(context, item)).collect();
    let formats: Vec<CursorFormat> = formats.into_iter().collect::<Option<_>>()?;
    let kind = |format: &CursorFormat| if is_time(format) { None } else { Some(format.clone()) };
    for (other, item) in formats.iter().zip(items).skip(1) {
        if kind(other) != kind(&formats[0]) {
            context
                .error(
                    codes::BAD_CURSOR,
                    item.at,
                    "formats of different kinds",
                    "values of this one cannot be compared with those of the first",
                )
                .help("either all are times, or there is one format");
            return None;
        }
    }
    Some(formats)
}

fn format(context: &mut Context<'_>, given: &At<Plain>) -> Option<CursorFormat> {
    Some(match given.value.0.as_str() {
        "rfc3339" => CursorFormat::Rfc3339,
        "epoch_s" => CursorFormat::EpochSeconds,
        "epoch_ms" => CursorFormat::EpochMillis,
        "integer" => CursorFormat::Integer,
        "string" => CursorFormat::Text,
        pattern if pattern.contains('%') => {
            let sample = civil::date(2024, 2, 29).to_zoned(jiff::tz::TimeZone::UTC).ok()?;
            if let Err(error) = strtime::format(pattern, &sample) {
                context.error(
                    codes::BAD_CURSOR,
                    given.at,
                    "not a strftime pattern",
                    error.to_string().replace("strftime formatting failed: ", ""),
                );
                return None;
            }
            CursorFormat::Pattern(pattern.to_owned())
        }
        other => {
            let label = match nearest(other, FORMATS.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("expected one of {}", list_of(FORMATS.iter().copied())),
            };
            let message = format!("unknown format `{}`", other.escape_debug());
            context
                .error(codes::BAD_CURSOR, given.at, message, label)
                .help("any other format is a strftime pattern, such as \"%Y-%m-%d %H:%M:%S\"");
            return None;
        }
    })
}

fn is_time(format: &CursorFormat) -> bool {
    !matches!(format, CursorFormat::Integer | CursorFormat::Text)
}

/// `start` or `until`.
fn bound_of(
    context: &mut Context<'_>,
    key: &str,
    given: &At<Moment>,
    formats: &[CursorFormat],
) -> Option<CursorStart> {
    let format = formats.first().unwrap_or(&CursorFormat::Rfc3339);
    let text = given.value.0.as_str();
    let ago = text.strip_prefix('-').filter(|ago| units::duration(ago).is_ok());
    if let Some(ago) = ago {
        if is_time(format) {
            return units::duration(ago).ok().map(CursorStart::Ago);
        }
        context.error(
            codes::BAD_CURSOR,
            given.at,
            format!("`{key}` is a time, the format is none"),
            "expected a value in the cursor's format",
        );
        return None;
    }
    if fits(text, format) || formats.iter().any(|format| fits(text, format)) {
        return Some(CursorStart::Literal(text.to_owned()));
    }
    let (label, help) = if matches!(format, CursorFormat::Integer) {
        ("expected a whole number", None)
    } else {
        let help =
            units::duration(text).is_ok().then(|| format!("write \"-{text}\" for so long ago"));
        ("expected a date, a time with zone, or how long ago: \"2025-01-01\", \"-90d\"", help)
    };
    let message = format!("`{key}` does not fit the format");
    let reported = context.error(codes::BAD_CURSOR, given.at, message, label);
    if let Some(help) = help {
        reported.help(help);
    }
    None
}

/// An end before the beginning: there would be nothing to read.
fn check_ends(context: &mut Context<'_>, def: &CursorDef, format: &CursorFormat) {
    let (Some(start), Some(until)) = (def.start.get(), def.until.get()) else { return };
    if is_before(&until.value.0, &start.value.0, format) {
        context
            .error(codes::BAD_CURSOR, until.at, "`until` is before `start`", "nothing lies between")
            .related(start.at, "it begins here");
    }
}

/// Whether one bound is before another, as far as that does not depend on when it is asked.
fn is_before(one: &str, other: &str, format: &CursorFormat) -> bool {
    let ago = |text: &str| units::duration(text.strip_prefix('-')?).ok();
    let time = |text: &str| {
        let civil =
            || text.parse::<civil::DateTime>().or_else(|_| Ok(text.parse::<civil::Date>()?.into()));
        let zoned = |civil: civil::DateTime| civil.to_zoned(jiff::tz::TimeZone::UTC);
        let read: Result<civil::DateTime, jiff::Error> = civil();
        text.parse::<jiff::Timestamp>().ok().or(zoned(read.ok()?).ok().map(|it| it.timestamp()))
    };
    let number = |text: &str| text.parse::<i64>().ok();
    match format {
        CursorFormat::Text => one < other,
        CursorFormat::Integer => number(one).zip(number(other)).is_some_and(|(a, b)| a < b),
        _ => {
            ago(one).zip(ago(other)).is_some_and(|(one, other)| one > other)
                || time(one).zip(time(other)).is_some_and(|(one, other)| one < other)
                || number(one).zip(number(other)).is_some_and(|(one, other)| one < other)
        }
    }
}

/// Whether a value that is written in the file is one of a format.
fn fits(text: &str, format: &CursorFormat) -> bool {
    let is_number = text.parse::<i64>().is_ok();
    let is_written_time = text.parse::<jiff::Timestamp>().is_ok()
        || text.parse::<civil::DateTime>().is_ok()
        || text.parse::<civil::Date>().is_ok();
    match format {
        CursorFormat::Text => true,
        CursorFormat::Integer => is_number,
        CursorFormat::EpochSeconds | CursorFormat::EpochMillis => is_number || is_written_time,
        CursorFormat::Rfc3339 => is_written_time,
        CursorFormat::Pattern(pattern) => {
            is_written_time || strtime::BrokenDownTime::parse(pattern, text).is_ok()
        }
    }
}

/// A cursor that nothing sends or compares means that every run reads everything again.
fn check_used(context: &mut Context<'_>, given: &At<CursorDef>, uses: Option<&Uses>) {
    let def = &given.value;
    let Some(uses) = uses else { return };
    let sent = !def.start_param.is_absent();
    let placed = uses.has("window", "start");
    let filtered = !def.filter.is_absent() && def.filter.value() != Some(&false);
    let ends_there = def.sorted.value() == Some(&SortedDef::Desc);
    if sent || placed || filtered || ends_there {
        return;
    }
    context
        .error(
            codes::UNUSED_CURSOR,
            given.at,
            "the cursor is kept but no request uses it",
            "every run would read everything again",
        )
        .help(
            "add `start_param`, the query parameter that takes it; or place {{ window.start }} in \
             the request; or say filter = true to drop older records on this side, or \
             sorted = \"desc\" where the newest come first",
        );
}

/// Keys that need each other.
fn check_keys(context: &mut Context<'_>, def: &CursorDef, format: &CursorFormat) {
    let spans = [
        ("window", def.window.key()),
        ("lookback", def.lookback.key()),
        ("oldest", def.oldest.key()),
    ];
    for (name, at) in spans {
        if let Some(at) = at.filter(|_| !is_time(format)) {
            context
                .error(
                    codes::BAD_CURSOR,
                    at,
                    format!("`{name}` is a time, the cursor is none"),
                    "only a cursor that is a time has this",
                )
                .help("say with `format` how the time is written");
        }
    }
    let begins = !def.start.is_absent() || !def.oldest.is_absent();
    if let (Some(at), false) = (def.window.key(), begins) {
        context
            .error(
                codes::BAD_CURSOR,
                at,
                "windows need a beginning",
                "`start` expected beside this",
            )
            .help("write start = \"2025-01-01\", or start = \"-90d\" for so long ago");
    }
    let needs_field = [("sorted", def.sorted.key()), ("filter", def.filter.key())];
    for (name, at) in needs_field {
        if let Some(at) = at.filter(|_| def.field.is_absent()) {
            context
                .error(
                    codes::BAD_CURSOR,
                    at,
                    format!("`{name}` needs `field`"),
                    "which value of a record is meant?",
                )
                .help("write field = \"$.updated_at\"");
        }
    }
    if let (true, false, None) = (def.field.is_absent(), is_time(format), def.window.key())
        && let Some(at) = def.format.key()
    {
        context
            .error(
                codes::BAD_CURSOR,
                at,
                "a cursor without `field` is a time",
                "this format is none",
            )
            .help("write field = \"$.id\"");
    }
}
