//! Words: durations, sizes and lists as sentences have them.

use std::time::Duration;

use serde_json::Value;

use crate::plan::{Jitter, Rate, ScheduleWhen};

/// Texts of the file are quoted up to so many characters.
const MAX_QUOTED_CHARS: usize = 100;

/// `1h 30m`, `250ms`; two units at most.
pub(super) fn duration(duration: Duration) -> String {
    const UNITS: [(&str, u128); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut rest = duration.as_millis();
    let mut parts: Vec<String> = Vec::new();
    for (unit, length) in UNITS {
        if rest >= length {
            parts.push(format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A duration that may not be there.
pub(super) fn maybe_duration(given: Option<Duration>) -> String {
    given.map_or_else(|| "none".to_owned(), duration)
}

/// `64MiB`, where it is a round number of them.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = UNITS.iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(|| format!("{bytes}B"), |(unit, size)| format!("{}{unit}", bytes / size))
}

/// `2/s, 1000/h`, or `unlimited`.
pub(super) fn rates(rates: &[Rate]) -> String {
    let one = |rate: &Rate| {
        let per = duration(rate.per);
        format!("{}/{}", rate.count, per.strip_prefix('1').filter(|u| is_unit(u)).unwrap_or(&per))
    };
    if rates.is_empty() {
        return "unlimited".to_owned();
    }
    rates.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn is_unit(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// `every 5m`, `cron */5 * * * * (UTC)`.
pub(super) fn schedule(when: &ScheduleWhen) -> String {
    match when {
        ScheduleWhen::Every(every) => format!("every {}", duration(*every)),
        ScheduleWhen::Cron { pattern, tz } => format!("cron {pattern} ({tz})"),
    }
}

/// `10%`, `30s`.
pub(super) fn jitter(jitter: Jitter) -> String {
    match jitter {
        Jitter::Ratio(ratio) => percent(ratio),
        Jitter::Duration(spread) => duration(spread),
    }
}

/// `99.9%`.
pub(super) fn percent(ratio: f64) -> String {
    let text = format!("{:.4}", ratio * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A text of the file in backticks, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    let flat = text.replace('\n', " ");
    let flat = flat.trim();
    match flat.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((at, _)) => format!("`{}…`", &flat[..at]),
        None => format!("`{flat}`"),
    }
}

/// A constant as the file has it.
pub(super) fn constant(value: &Value) -> String {
    quoted(&value.to_string())
}

/// `a`, `b` and `c`.
pub(super) fn list<T: AsRef<str>>(items: &[T]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("`{}`", item.as_ref())).collect();
    and(&quoted)
}

/// a, b and c.
pub(super) fn and(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let said = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!([said(0), said(90), said(7200), said(2047)], ["0s", "1m 30s", "2h", "34m 7s"]);
        assert_eq!(duration(Duration::from_millis(1500)), "1s 500ms");
        assert_eq!([bytes(64 << 20), bytes(1500)], ["64MiB", "1500B"]);
        let rate = |count, seconds| Rate { count, per: Duration::from_secs(seconds) };
        assert_eq!(rates(&[rate(2, 1), rate(1000, 3600), rate(5, 10)]), "2/s, 1000/h, 5/10s");
        assert_eq!(rates(&[]), "unlimited");
        assert_eq!([percent(0.999), percent(0.1), percent(1.0)], ["99.9%", "10%", "100%"]);
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` and `c`");
        assert_eq!(quoted("a\n  b"), "`a   b`");
    }
}
