//! `[schedule]`: the stream's own keys over the file's.

use std::{collections::HashSet, sync::Mutex};

use croner::parser::{CronParser, Seconds};
use jiff::{Zoned, civil, tz::TimeZone};

use super::{
    super::{Jitter, SchedulePlan, ScheduleWhen},
    connector::Whole,
    context::Context,
};
use crate::{
    definition::{
        kinds::{JitterDef, Plain, Span},
        schedule::ScheduleDef,
        stream::StreamDef,
        table::{At, Given},
    },
    diagnostic::codes,
};

/// Runs of `every` are spread by this share of the interval unless the file says otherwise, so that
/// a thousand connectors do not start at once. `cron` is taken at its word.
const DEFAULT_JITTER: f64 = 0.1;

pub(super) fn compile(
    context: &mut Context<'_>,
    whole: Whole<'_>,
    name: &str,
    stream: &StreamDef,
) -> Option<SchedulePlan> {
    let file = whole.own.schedule.or(&whole.body.schedule);
    for table in [&stream.schedule, file] {
        if let Some(def) = table.value() {
            check_table(context, def);
        }
    }
    if stream.poll.is_absent() {
        return None;
    }
    if stream.schedule.is_absent() && file.is_absent() {
        // A connector without destination runs only through `use`; the instance says when.
        let runs = !whole.own.destination.is_absent() || whole.is_instance;
        if let (true, Some(poll)) = (runs, stream.poll.value()) {
            context
                .error(
                    codes::NO_SCHEDULE,
                    poll.at,
                    format!("stream `{name}` polls without a schedule"),
                    "nothing says when",
                )
                .help("add [schedule] with every = \"5m\", or cron = \"*/5 * * * *\"");
        }
        return None;
    }
    merge(context, stream.schedule.value(), file.value())
}

/// What is wrong with a table by itself.
fn check_table(context: &mut Context<'_>, def: &ScheduleDef) {
    match (def.every.key(), def.cron.key()) {
        (every @ Some(_), cron @ Some(_)) => {
            context.exclude(("every", every), ("cron", cron));
        }
        (None, None) if is_silent(def) => {
            context
                .error(
                    codes::BAD_SCHEDULE,
                    def.at,
                    "the schedule says nothing",
                    "`every` or `cron` expected here",
                )
                .help(
                    "write every = \"5m\", or cron = \"*/5 * * * *\" with tz = \"Europe/Berlin\"",
                );
        }
        _ => {}
    }
    if let (Some(tz), Some(_)) = (def.tz.key(), def.every.key()) {
        context
            .error(codes::MISPLACED_KEY, tz, "`tz` has no effect here", "`every` does not use it")
            .help("a time zone matters to `cron`");
    }
}

fn is_silent(def: &ScheduleDef) -> bool {
    def.jitter.is_absent() && def.tz.is_absent() && def.reconcile.is_absent()
}

fn merge(
    context: &mut Context<'_>,
    own: Option<&ScheduleDef>,
    file: Option<&ScheduleDef>,
) -> Option<SchedulePlan> {
    let tables: Vec<&ScheduleDef> = [own, file].into_iter().flatten().collect();
    let says_when = |def: &&&ScheduleDef| !def.every.is_absent() || !def.cron.is_absent();
    let Some(when) = tables.iter().find(says_when) else {
        if let Some(table) = tables.first() {
            context
                .error(
                    codes::BAD_SCHEDULE,
                    table.at,
                    "the schedule says nothing",
                    "`every` or `cron` expected here",
                )
                .help("write every = \"5m\", or cron = \"*/5 * * * *\"");
        }
        return None;
    };
    let jitter = tables.iter().find_map(|def| def.jitter.value());
    let tz = tables.iter().map(|def| &def.tz).find(|tz| !tz.is_absent()).unwrap_or(&Given::Absent);
    timed(context, (&when.every, &when.cron, tz), jitter)
}

/// `every`, or `cron` in `tz`, with what spreads it.
pub(super) fn timed(
    context: &mut Context<'_>,
    (every, cron, tz): (&Given<Span>, &Given<Plain>, &Given<Plain>),
    jitter: Option<&JitterDef>,
) -> Option<SchedulePlan> {
    let (when, default) = match (every.value(), cron.get()) {
        (Some(every), _) => (ScheduleWhen::Every(every.0), DEFAULT_JITTER),
        (None, Some(cron)) => (compile_cron(context, cron, tz)?, 0.0),
        (None, None) => return None,
    };
    let jitter = match jitter {
        Some(JitterDef::Ratio(ratio)) => Jitter::Ratio(*ratio),
        Some(JitterDef::Duration(duration)) => Jitter::Duration(*duration),
        None => Jitter::Ratio(default),
    };
    Some(SchedulePlan { when, jitter })
}

/// Patterns that are known to fire in a zone: looking for the next run of each of ten thousand
/// schedules again would be half of the time that loading them takes.
static KNOWN: Mutex<Option<HashSet<(String, String)>>> = Mutex::new(None);

fn compile_cron(
    context: &mut Context<'_>,
    cron: &At<Plain>,
    tz: &Given<Plain>,
) -> Option<ScheduleWhen> {
    let pattern = cron.value.0.clone();
    let zone = match tz {
        Given::Absent => "UTC",
        Given::Invalid(_) => return None,
        Given::Value(tz) => &tz.value.0,
    };
    let plan = ScheduleWhen::Cron { pattern: pattern.clone(), tz: zone.to_owned() };
    let key = (pattern.clone(), zone.to_owned());
    let is_known =
        |known: &Option<HashSet<_>>| known.as_ref().is_some_and(|set| set.contains(&key));
    if KNOWN.lock().is_ok_and(|known| is_known(&known)) {
        return Some(plan);
    }
    let time_zone = match (TimeZone::get(zone), tz.get()) {
        (Ok(time_zone), _) => Some(time_zone),
        (Err(_), Some(tz)) => {
            unknown_zone(context, tz);
            None
        }
        (Err(_), None) => None,
    };
    let parser = CronParser::builder().seconds(Seconds::Optional).build();
    let parsed = match parser.parse(&pattern) {
        Ok(parsed) => parsed,
        Err(error) => {
            let text = error.to_string();
            let label = text.rsplit(": ").next().unwrap_or_default().trim_end_matches('.');
            context
                .error(codes::BAD_CRON, cron.at, "not a cron pattern", label.to_lowercase())
                .help("five fields: minute, hour, day of month, month, day of week; for example \"*/5 * * * *\"");
            return None;
        }
    };
    let time_zone = time_zone?;
    // Any leap year will do: whether a pattern ever fires does not depend on today.
    let from = civil::date(2024, 1, 1).to_zoned(time_zone).ok()?;
    if parsed.find_next_occurrence::<Zoned>(&from, false).is_err() {
        context
            .error(
                codes::NEVER_FIRES,
                cron.at,
                "this cron pattern never fires",
                "no date matches it",
            )
            .help("look at the day of month and the month: there is no 30 February");
        return None;
    }
    if let Ok(mut known) = KNOWN.lock() {
        known.get_or_insert_with(HashSet::new).insert(key);
    }
    Some(plan)
}

fn unknown_zone(context: &mut Context<'_>, tz: &At<Plain>) {
    let names: Vec<String> =
        jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
    let wrong = tz.value.0.as_str();
    let near = crate::diagnostic::nearest(wrong, names.iter().map(String::as_str));
    let label = match near {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "expected an IANA name such as \"Europe/Berlin\"".to_owned(),
    };
    let message = format!("unknown time zone `{}`", wrong.escape_debug());
    context.error(codes::UNKNOWN_ZONE, tz.at, message, label);
}
