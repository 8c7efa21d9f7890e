//! Cursors: where a poll begins, how it goes on, and what a change makes it read again or miss.

use std::time::Duration;

use jiff::{Timestamp, civil, tz::TimeZone};

use super::{
    pen::{At, Pen, Presence},
    rule,
    say::{self, quoted},
};
use crate::plan::{CursorFormat, CursorPlan, CursorStart, Dedupe, Sorted, StreamPlan};

/// Where a first run begins, for a sentence.
pub(super) fn begins(plan: &CursorPlan) -> String {
    match &plan.start {
        Some(CursorStart::Literal(start)) => format!("its first run begins at {start}"),
        Some(CursorStart::Ago(ago)) => format!("its first run goes {} back", say::duration(*ago)),
        None => "its first run reads everything".to_owned(),
    }
}

pub(super) fn compare(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (Option<&CursorPlan>, Option<&CursorPlan>),
    stream: &StreamPlan,
) {
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            let effect = format!("{}, later ones only what is new", begins(new));
            pen.note(at, "poll.cursor", rule::CURSOR_ADDED, "is new", effect);
        }
        (Some(_), None) => {
            let effect = format!("every run reads everything; {}", again(stream));
            pen.note(at, "poll.cursor", rule::CURSOR_REMOVED, "is gone", effect);
        }
        (Some(old), Some(new)) => cursors(pen, at, old, new, stream),
    }
}

/// What becomes of records that are read a second time.
fn again(stream: &StreamPlan) -> String {
    match stream.dedupe {
        Dedupe::Forever => "what is known is dropped, since `dedupe` is forever".to_owned(),
        Dedupe::Window(window) => {
            format!("what was taken in more than {} ago is delivered again", say::duration(window))
        }
    }
}

fn cursors(pen: &mut Pen<'_>, at: &At, old: &CursorPlan, new: &CursorPlan, stream: &StreamPlan) {
    let CursorPlan {
        field,
        format,
        also,
        start,
        until,
        oldest,
        start_param,
        end_param,
        window,
        lookback,
        sorted,
        filter,
    } = new;
    let fields = (old.field.as_ref(), field.as_ref());
    let rules = Presence::all(rule::CURSOR_FIELD);
    pen.maybe_expr(at, "poll.cursor.field", rules, fields, |_| {
        "it goes on from the stored value: records that lie before it on the new field are not read"
            .to_owned()
    });
    formats(pen, at, (&old.format, format), stream);
    also_read(pen, at, (&old.also, also));
    starts(pen, at, (old.start.as_ref(), start.as_ref()));
    ends(pen, at, (old.until.as_ref(), until.as_ref()));
    let show = |span: &Option<Duration>| say::maybe_duration(*span);
    pen.value(at, "poll.cursor.oldest", rule::CURSOR_SETTING, (&old.oldest, oldest), show, || {
        "nothing older is asked for, wherever the cursor stands".to_owned()
    });
    let setting = rule::CURSOR_SETTING;
    let show = |param: &Option<String>| param.as_deref().map_or("none".to_owned(), quoted);
    let params = (&old.start_param, start_param);
    pen.value(at, "poll.cursor.start_param", setting, params, show, || {
        if start_param.is_none() {
            "where the API is not told where to begin, it answers with everything".to_owned()
        } else {
            "the API has to know it: one that does not answers with everything".to_owned()
        }
    });
    let params = (&old.end_param, end_param);
    pen.value(at, "poll.cursor.end_param", setting, params, show, String::new);
    let show = |span: &Option<Duration>| say::maybe_duration(*span);
    let (was, is) = (&old.window, window);
    pen.value(at, "poll.cursor.window", setting, (was, is), show, || {
        "the same records, asked for in larger or smaller spans".to_owned()
    });
    let (was, is) = (old.lookback.unwrap_or_default(), lookback.unwrap_or_default());
    pen.value(at, "poll.cursor.lookback", setting, (&old.lookback, lookback), show, || {
        if is < was {
            format!("a record that shows up more than {} late is missed", say::duration(is))
        } else {
            "every run reads that much again; what is known is dropped".to_owned()
        }
    });
    let show = |sorted: &Sorted| match sorted {
        Sorted::No => "no".to_owned(),
        Sorted::Ascending => "asc".to_owned(),
        Sorted::Descending => "desc".to_owned(),
    };
    pen.value(at, "poll.cursor.sorted", setting, (&old.sorted, sorted), show, || match sorted {
        Sorted::Ascending => {
            "the cursor moves page by page; a run that fails goes on from there".to_owned()
        }
        Sorted::Descending => {
            "a run ends at the cursor; an API that answers in another order is read to its end"
                .to_owned()
        }
        Sorted::No => {
            "the cursor moves at the end of a run; one that fails begins again".to_owned()
        }
    });
    let show = |filter: &bool| filter.to_string();
    pen.value(at, "poll.cursor.filter", setting, (&old.filter, filter), show, || {
        if *filter {
            "records before the cursor are dropped on this side".to_owned()
        } else {
            "records before the cursor are no longer dropped on this side".to_owned()
        }
    });
}

fn formats(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (&CursorFormat, &CursorFormat),
    stream: &StreamPlan,
) {
    if old == new {
        return;
    }
    let what = format!("{} → {}", word(old), word(new));
    if kind(old) == kind(new) {
        let effect = "the stored cursor is a time and goes on; a record that is written otherwise \
                      fails the run";
        pen.note(at, "poll.cursor.format", rule::CURSOR_FORMAT, what, effect);
    } else {
        let effect = format!(
            "the stored cursor no longer fits and the poll begins at its start again; {}",
            again(stream)
        );
        pen.note(at, "poll.cursor.format", rule::CURSOR_KIND, what, effect);
    }
}

fn also_read(pen: &mut Pen<'_>, at: &At, (old, new): (&[CursorFormat], &[CursorFormat])) {
    for format in old.iter().filter(|format| !new.contains(format)) {
        let effect = "a record that is written so fails the run";
        let what = format!("{} is no longer read", word(format));
        pen.note(at, "poll.cursor.format", rule::CURSOR_FORMAT, what, effect);
    }
    for format in new.iter().filter(|format| !old.contains(format)) {
        let what = format!("{} is read, too", word(format));
        pen.note(at, "poll.cursor.format", rule::CURSOR_FORMAT, what, "");
    }
}

/// Time, number or text: a stored cursor fits a format of its kind.
fn kind(format: &CursorFormat) -> u8 {
    match format {
        CursorFormat::Rfc3339
        | CursorFormat::EpochSeconds
        | CursorFormat::EpochMillis
        | CursorFormat::Pattern(_) => 0,
        CursorFormat::Integer => 1,
        CursorFormat::Text => 2,
    }
}

fn word(format: &CursorFormat) -> String {
    match format {
        CursorFormat::Rfc3339 => "rfc3339".to_owned(),
        CursorFormat::EpochSeconds => "epoch_s".to_owned(),
        CursorFormat::EpochMillis => "epoch_ms".to_owned(),
        CursorFormat::Pattern(pattern) => quoted(pattern),
        CursorFormat::Integer => "integer".to_owned(),
        CursorFormat::Text => "string".to_owned(),
    }
}

/// A start or an end as it is written.
fn bound(bound: Option<&CursorStart>) -> String {
    match bound {
        None => "none".to_owned(),
        Some(CursorStart::Literal(text)) => text.clone(),
        Some(CursorStart::Ago(ago)) => format!("-{}", say::duration(*ago)),
    }
}

fn ends(pen: &mut Pen<'_>, at: &At, (old, new): (Option<&CursorStart>, Option<&CursorStart>)) {
    if old == new {
        return;
    }
    let effect = match new {
        None => "what came later is read, too",
        Some(_) => "what is later than that is not read",
    };
    let what = format!("{} → {}", bound(old), bound(new));
    pen.note(at, "poll.cursor.until", rule::CURSOR_UNTIL, what, effect);
}

fn starts(pen: &mut Pen<'_>, at: &At, (old, new): (Option<&CursorStart>, Option<&CursorStart>)) {
    if old == new {
        return;
    }
    let between = format!("{} → {}", bound(old), bound(new));
    let (direction, does) = match (old, new) {
        (_, None) => ("removed".to_owned(), "reads everything".to_owned()),
        (None, Some(_)) => ("added".to_owned(), "no longer reads everything".to_owned()),
        (Some(old), Some(new)) => match earlier_by(old, new) {
            Some((span, true)) => ("earlier".to_owned(), format!("reads {span} more")),
            Some((span, false)) => ("later".to_owned(), format!("reads {span} less")),
            None => ("changed".to_owned(), "begins there".to_owned()),
        },
    };
    let effect = format!(
        "a poll that begins anew (a new installation, lost state) {does}; one that has a cursor goes on \
         from there"
    );
    let what = format!("{direction}: {between}");
    pen.note(at, "poll.cursor.start", rule::CURSOR_START, what, effect);
}

/// By how much the new start lies before the old one (true) or after it, as far as that can be told
/// without knowing what day it is.
fn earlier_by(old: &CursorStart, new: &CursorStart) -> Option<(String, bool)> {
    match (old, new) {
        (CursorStart::Ago(old), CursorStart::Ago(new)) => {
            Some((say::duration(old.abs_diff(*new)), new > old))
        }
        (CursorStart::Literal(old), CursorStart::Literal(new)) => {
            if let (Some(old), Some(new)) = (instant(old), instant(new)) {
                let seconds = (old.as_second() - new.as_second()).unsigned_abs();
                return Some((say::duration(Duration::from_secs(seconds)), new < old));
            }
            let (old, new) = (old.parse::<i64>().ok()?, new.parse::<i64>().ok()?);
            Some((format!("{}", old.abs_diff(new)), new < old))
        }
        _ => None,
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    let zoned = |time: civil::DateTime| time.to_zoned(TimeZone::UTC).ok();
    text.parse::<Timestamp>().ok().or_else(|| {
        let date = text.parse::<civil::Date>().ok().map(|date| date.to_datetime(civil::Time::MIN));
        let time = date.or_else(|| text.parse::<civil::DateTime>().ok())?;
        zoned(time).map(|zoned| zoned.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_earlier() {
        let literal = |text: &str| CursorStart::Literal(text.to_owned());
        let ago = |days: u64| CursorStart::Ago(Duration::from_secs(days * 86_400));
        for (old, new, expected) in [
            (literal("2025-01-31"), literal("2025-01-01"), Some(("30d", true))),
            (literal("2025-01-01"), literal("2025-01-01T12:00:00Z"), Some(("12h", false))),
            (ago(30), ago(90), Some(("60d", true))),
            (literal("100"), literal("40"), Some(("60", true))),
            (literal("2025-01-01"), ago(3), None),
            (literal("abc"), literal("abd"), None),
        ] {
            let found = earlier_by(&old, &new);
            let found = found.as_ref().map(|(span, earlier)| (span.as_str(), *earlier));
            assert_eq!(found, expected, "{old:?} {new:?}");
        }
    }
}
