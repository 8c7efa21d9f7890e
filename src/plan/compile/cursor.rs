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
        cursor::CursorDef,
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
    let format = format(context, &def.format)?;
    let field = context.maybe(&def.field, &sites::RECORD, &format!("{path}.cursor.field"));
    let start = def.start.get().and_then(|start| start_of(context, start, &format));
    check_used(context, given, uses);
    check_keys(context, def, &format);
    if !def.field.is_absent() && field.is_none() {
        return None;
    }
    Some(CursorPlan {
        field,
        start,
        start_param: def.start_param.value().map(|param| param.0.clone()),
        end_param: def.end_param.value().map(|param| param.0.clone()),
        window: def.window.value().map(|span| span.0),
        lookback: def.lookback.value().map(|span| span.0),
        sorted: if def.sorted.is_absent() { Sorted::No } else { Sorted::Ascending },
        filter: def.filter.value().copied().unwrap_or(false),
        format,
    })
}

fn format(context: &mut Context<'_>, given: &Given<Plain>) -> Option<CursorFormat> {
    let given = match given {
        Given::Absent => return Some(CursorFormat::Rfc3339),
        Given::Invalid(_) => return None,
        Given::Value(given) => given,
    };
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

fn start_of(
    context: &mut Context<'_>,
    given: &At<Moment>,
    format: &CursorFormat,
) -> Option<CursorStart> {
    let text = given.value.0.as_str();
    let ago = text.strip_prefix('-').filter(|ago| units::duration(ago).is_ok());
    if let Some(ago) = ago {
        if is_time(format) {
            return units::duration(ago).ok().map(CursorStart::Ago);
        }
        context.error(
            codes::BAD_CURSOR,
            given.at,
            "`start` is a time, the format is none",
            "expected a value in the cursor's format",
        );
        return None;
    }
    let is_number = text.parse::<i64>().is_ok();
    let is_written_time = text.parse::<jiff::Timestamp>().is_ok()
        || text.parse::<civil::DateTime>().is_ok()
        || text.parse::<civil::Date>().is_ok();
    let fits = match format {
        CursorFormat::Text => true,
        CursorFormat::Integer => is_number,
        CursorFormat::EpochSeconds | CursorFormat::EpochMillis => is_number || is_written_time,
        CursorFormat::Rfc3339 => is_written_time,
        CursorFormat::Pattern(pattern) => {
            is_written_time || strtime::BrokenDownTime::parse(pattern, text).is_ok()
        }
    };
    if fits {
        return Some(CursorStart::Literal(text.to_owned()));
    }
    let (label, help) = if matches!(format, CursorFormat::Integer) {
        ("expected a whole number", None)
    } else {
        let help =
            units::duration(text).is_ok().then(|| format!("write \"-{text}\" for so long ago"));
        ("expected a date, a time with zone, or how long ago: \"2025-01-01\", \"-90d\"", help)
    };
    let reported =
        context.error(codes::BAD_CURSOR, given.at, "`start` does not fit the format", label);
    if let Some(help) = help {
        reported.help(help);
    }
    None
}

/// A cursor that nothing sends or compares means that every run reads everything again.
fn check_used(context: &mut Context<'_>, given: &At<CursorDef>, uses: Option<&Uses>) {
    let def = &given.value;
    let Some(uses) = uses else { return };
    let sent = !def.start_param.is_absent() || !def.end_param.is_absent();
    let placed = uses.has("window", "start") || uses.has("window", "end");
    let filtered = !def.filter.is_absent() && def.filter.value() != Some(&false);
    if sent || placed || filtered {
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
             the request; or say filter = true to drop older records on this side",
        );
}

/// Keys that need each other.
fn check_keys(context: &mut Context<'_>, def: &CursorDef, format: &CursorFormat) {
    let spans = [("window", def.window.key()), ("lookback", def.lookback.key())];
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
    if let (Some(at), true) = (def.window.key(), def.start.is_absent()) {
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
