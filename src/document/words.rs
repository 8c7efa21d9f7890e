//! Quantities in words.

use std::time::Duration;

use crate::plan::Rate;

const UNITS: &[(u64, &str)] =
    &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")];

/// `30 s`, `10 min`, `24 h`, `7 days`, `1 h 30 min`: at most two units.
pub(super) fn time(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match millis {
        0 => return "0 s".to_owned(),
        // A day is 24 hours, and more than two of them are days.
        86_400_000 => return "24 h".to_owned(),
        172_800_000 => return "48 h".to_owned(),
        _ => {}
    }
    let Some(first) = UNITS.iter().position(|(unit, _)| millis >= *unit) else {
        return "0 s".to_owned();
    };
    let mut left = millis;
    let mut words = Vec::new();
    for (unit, name) in UNITS.iter().skip(first).take(2) {
        let count = left / unit;
        left %= unit;
        if count > 0 {
            words.push(match *name {
                "d" if count == 1 => "1 day".to_owned(),
                "d" => format!("{count} days"),
                name => format!("{count} {name}"),
            });
        }
    }
    words.join(" ")
}

/// `64 MiB`, `1,500 bytes`.
pub(super) fn size(bytes: u64) -> String {
    for (shift, name) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let unit = 1_u64 << shift;
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    format!("{bytes} bytes")
}

/// `2 a second, 1000 an hour`.
pub(super) fn rates(rates: &[Rate]) -> String {
    let words = rates.iter().map(|rate| {
        let per = match rate.per.as_secs() {
            1 if rate.per.subsec_millis() == 0 => "a second".to_owned(),
            60 => "a minute".to_owned(),
            3600 => "an hour".to_owned(),
            86_400 => "a day".to_owned(),
            _ => format!("in {}", time(rate.per)),
        };
        format!("{} {per}", rate.count)
    });
    words.collect::<Vec<_>>().join(", ")
}

/// `99.9 %`.
pub(super) fn percent(ratio: f64) -> String {
    let text = format!("{:.4}", ratio * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `a, b and c`.
pub(super) fn and(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_people_say_them() {
        let time = |seconds| time(Duration::from_secs(seconds));
        for (seconds, expected) in [
            (0, "0 s"),
            (30, "30 s"),
            (600, "10 min"),
            (5400, "1 h 30 min"),
            (86_400, "24 h"),
            (90_000, "1 day 1 h"),
            (604_800, "7 days"),
        ] {
            assert_eq!(time(seconds), expected);
        }
        assert_eq!(super::time(Duration::from_millis(1250)), "1 s 250 ms");
        assert_eq!((size(1 << 20), size(1500)), ("1 MiB".to_owned(), "1500 bytes".to_owned()));
        assert_eq!((percent(0.999), percent(1.0)), ("99.9 %".to_owned(), "100 %".to_owned()));
        let rate = |count, seconds| Rate { count, per: Duration::from_secs(seconds) };
        assert_eq!(
            rates(&[rate(2, 1), rate(1000, 3600), rate(5, 10)]),
            "2 a second, 1000 an hour, 5 in 10 s"
        );
        assert_eq!(and(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }
}
