//! Polls that never know when to stop, or ask more often than they may.

use std::{collections::BTreeSet, time::Duration};

use croner::parser::{CronParser, Seconds};
use jiff::{civil, tz::TimeZone};

use super::{Subject, names::names};
use crate::{
    definition::{
        collections::items,
        page::{PageDef, PageKind},
        poll::PollDef,
        schedule::ScheduleDef,
        source::SourceDef,
        stream::StreamDef,
        table::{Finding, Given, Loc},
        units::Rate,
    },
    diagnostic::codes,
};

pub(super) fn lint(subject: &Subject<'_, '_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (_, stream) in subject.own_streams() {
        if let Some(poll) = stream.value.poll.value() {
            found.extend(endless(poll, subject.own.source.value()));
        }
    }
    found.extend(too_fast(subject));
    found
}

/// Pages that are counted end at a page that is empty, or smaller than asked for. An API that
/// answers the last page again, or an error, to whoever asks beyond it never gives an empty one.
fn endless(poll: &PollDef, source: Option<&SourceDef>) -> Option<Finding> {
    let (own_empty, shared_empty) = (PageDef::default(), PageDef::default());
    let own = poll.page.value().unwrap_or(&own_empty);
    let shared = source.and_then(|source| source.page.value()).unwrap_or(&shared_empty);
    if let Some(stop) = own.stop.or(&shared.stop).get() {
        let is_constant = names(&stop.value.text).chains.is_empty();
        return is_constant.then(|| {
            Finding::new(
                codes::PAGE_WITHOUT_STOP,
                stop.at,
                "`stop` says the same of every page",
                "it names nothing of the page",
            )
            .help("`stop` looks at the answer: stop = \"{{ not response.body.has_more }}\"")
        });
    }
    let by = own.by.or(&shared.by).get()?;
    let counts = matches!(by.value, PageKind::Page | PageKind::Offset);
    if !counts || !own.size.or(&shared.size).is_absent() {
        return None;
    }
    Some(
        Finding::new(
            codes::PAGE_WITHOUT_STOP,
            by.at,
            "only an empty page ends these pages",
            "neither `size` nor `stop` beside this",
        )
        .help(
            "add `size` (a smaller page is the last one, and saves a request), or `stop`: \
             stop = \"{{ not response.body.has_more }}\"",
        ),
    )
}

/// How a stream's poll is scheduled.
struct Timed<'d> {
    /// From one run to the next, or the runs themselves.
    when: When<'d>,
    at: Loc,
}

enum When<'d> {
    Every(Duration),
    Cron { pattern: &'d str, tz: &'d str },
}

/// Each run of each poll asks at least once. What that needs must fit into the source's rate.
fn too_fast(subject: &Subject<'_, '_>) -> Vec<Finding> {
    let Some(source) = subject.body().source.value() else { return Vec::new() };
    let file = subject.own.schedule.or(&subject.body().schedule);
    let polls: Vec<Timed<'_>> = subject
        .streams()
        .filter(|(_, stream)| !stream.value.poll.is_absent())
        .filter_map(|(_, stream)| {
            faster(&stream.value, file).or_else(|| timed(&stream.value, file))
        })
        .collect();
    // Whoever can mend it is told: the file that sets the pace.
    let is_own = |poll: &Timed<'_>| subject.base.is_none() || poll.at.file == 0;
    if !polls.iter().any(is_own) {
        return Vec::new();
    }
    items(&source.rate)
        .iter()
        .filter_map(|rate| {
            let needed: f64 = polls.iter().map(|poll| runs_within(&poll.when, rate.value)).sum();
            if needed <= f64::from(rate.value.count) {
                return None;
            }
            let paces: BTreeSet<Loc> = polls.iter().filter(|p| is_own(p)).map(|p| p.at).collect();
            let at = *paces.first()?;
            let per = written(rate.value.per);
            let allowed = rate.value.count;
            let finding = Finding::new(
                codes::POLL_TOO_FAST,
                at,
                format!("the polls need at least {} requests per {per}", needed.ceil()),
                format!("`rate` allows {allowed} per {per}"),
            )
            .related(rate.at, "allowed here")
            .help(
                "each run takes at least one request: poll less often, or raise `rate` if the API \
                 allows more",
            );
            Some(finding)
        })
        .collect()
}

/// How often is polled while webhooks are missing: of all streams at once, where the producer has
/// switched them off.
fn faster<'d>(stream: &'d StreamDef, file: &'d Given<ScheduleDef>) -> Option<Timed<'d>> {
    if stream.webhook.is_absent() {
        return None;
    }
    let mut tables = [&stream.schedule, file].into_iter().filter_map(Given::value);
    let faster = tables.find_map(|table| table.reconcile.value()?.faster.get())?;
    Some(Timed { when: When::Every(faster.value.0), at: faster.at })
}

fn timed<'d>(stream: &'d StreamDef, file: &'d Given<ScheduleDef>) -> Option<Timed<'d>> {
    let tables = [&stream.schedule, file].into_iter().filter_map(Given::value);
    let tables: Vec<&ScheduleDef> = tables.collect();
    for table in &tables {
        if let Some(every) = table.every.get() {
            return Some(Timed { when: When::Every(every.value.0), at: every.at });
        }
        if let Some(cron) = table.cron.get() {
            let tz = tables.iter().find_map(|table| table.tz.value());
            let tz = tz.map_or("UTC", |tz| tz.0.as_str());
            return Some(Timed { when: When::Cron { pattern: &cron.value.0, tz }, at: cron.at });
        }
    }
    None
}

/// How many runs fall into the time of a rate, in the long run.
fn runs_within(when: &When<'_>, rate: Rate) -> f64 {
    match when {
        When::Every(every) => rate.per.as_secs_f64() / every.as_secs_f64(),
        When::Cron { pattern, tz } => {
            f64::from(firings(pattern, tz, rate.per, rate.count).unwrap_or(0))
        }
    }
}

/// How often a pattern fires within `per` of a time at which it does; not counted beyond `enough`.
fn firings(pattern: &str, tz: &str, per: Duration, enough: u32) -> Option<u32> {
    let cron = CronParser::builder().seconds(Seconds::Optional).build().parse(pattern).ok()?;
    // Which year it is makes no difference worth a warning.
    let from = civil::date(2024, 1, 1).to_zoned(TimeZone::get(tz).ok()?).ok()?;
    let first = cron.find_next_occurrence(&from, true).ok()?;
    let end = first.checked_add(per).ok()?;
    let (mut at, mut count) = (first, 0);
    while at < end && count <= enough {
        count += 1;
        at = cron.find_next_occurrence(&at, false).ok()?;
    }
    Some(count)
}

/// The time of a rate in words: "second", "15 minutes".
fn written(per: Duration) -> String {
    let (unit, length) = [("day", 86_400), ("hour", 3_600), ("minute", 60)]
        .into_iter()
        .find(|(_, length)| per.as_secs() >= *length && per.as_secs().is_multiple_of(*length))
        .unwrap_or(("second", 1));
    match per.as_secs() / length {
        0 => format!("{} ms", per.as_millis()),
        1 => unit.to_owned(),
        count => format!("{count} {unit}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn patterns_are_counted_from_a_firing_on() {
        assert_eq!(firings("*/5 * * * *", "UTC", HOUR, 100), Some(12));
        assert_eq!(firings("0,1 9 * * *", "Europe/Berlin", MINUTE, 100), Some(1));
        assert_eq!(firings("* * * * * *", "UTC", HOUR, 10), Some(11), "that is enough to know");
        assert_eq!(firings("nonsense", "UTC", HOUR, 10), None);
    }

    #[test]
    fn the_time_of_a_rate_is_said_in_words() {
        for (seconds, text) in [
            (1, "second"),
            (60, "minute"),
            (900, "15 minutes"),
            (7200, "2 hours"),
            (90, "90 seconds"),
        ] {
            assert_eq!(written(Duration::from_secs(seconds)), text);
        }
    }
}
