//! Times: what is read needs a zone, what is printed is RFC 3339 in UTC, a date, or a given format.

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    fmt::{rfc2822, strtime},
    tz::{Offset, TimeZone},
};
use serde_json::Value;

use crate::map::fault::Fault;

use super::{Arguments, Refused};

/// A number of at least this is milliseconds: as seconds it would be after the year 5138.
const FIRST_MILLIS: f64 = 1e11;

/// How a time is read.
#[derive(Clone, Debug)]
pub(in crate::map) struct TimeInput {
    /// Tried in order; none: RFC 3339, RFC 2822, or a number of seconds or milliseconds.
    formats: Vec<Format>,
    /// For times that name no zone.
    zone: Option<TimeZone>,
}

#[derive(Clone, Debug)]
enum Format {
    Rfc3339,
    Rfc2822,
    EpochSeconds,
    EpochMillis,
    Pattern(Box<str>),
}

/// A time as it was read: a point in time, or what a calendar and a clock somewhere show.
enum Read {
    At(Timestamp, Option<Offset>),
    /// RFC 3339: its offset is read again where it matters.
    Rfc3339(Timestamp),
    Civil(DateTime),
}

impl TimeInput {
    pub(super) fn compile(arguments: &mut Arguments) -> Result<Self, Refused> {
        let zone = zone(arguments)?;
        let mut formats = arguments.texts("a format")?;
        match arguments.named("in") {
            None => {}
            Some(Value::String(format)) => formats.push(format),
            Some(_) => return Err(Refused::arguments("`in` is a text")),
        }
        let formats = formats.iter().map(|text| Format::compile(text)).collect::<Result<_, _>>()?;
        Ok(Self { formats, zone })
    }

    fn read(&self, value: &Value) -> Result<Read, Fault> {
        if self.formats.is_empty() {
            return match value {
                Value::String(text) => read_text(text.trim()),
                Value::Number(number) => number.as_f64().and_then(read_number),
                _ => None,
            }
            .ok_or_else(|| Fault::expected("a time (RFC 3339, RFC 2822 or a number)", value));
        }
        let found = match value {
            Value::String(text) => self.formats.iter().find_map(|one| one.read(text.trim())),
            Value::Number(number) => {
                let text = number.to_string();
                self.formats.iter().find_map(|one| one.read(&text))
            }
            _ => None,
        };
        found.ok_or_else(|| Fault::expected("a time of the given format", value))
    }

    fn timestamp(&self, value: &Value) -> Result<Timestamp, Fault> {
        match (self.read(value)?, &self.zone) {
            (Read::At(timestamp, _) | Read::Rfc3339(timestamp), _) => Ok(timestamp),
            (Read::Civil(civil), Some(zone)) => zone
                .to_timestamp(civil)
                .map_err(|_| Fault::expected("a time between the years -9999 and 9999", value)),
            (Read::Civil(_), None) => {
                Err(Fault::Here("expected a time with a zone (or give `tz=`)".to_owned()))
            }
        }
    }
}

impl Format {
    fn compile(text: &str) -> Result<Self, Refused> {
        Ok(match text {
            "rfc3339" => Self::Rfc3339,
            "rfc2822" => Self::Rfc2822,
            "epoch_s" => Self::EpochSeconds,
            "epoch_ms" => Self::EpochMillis,
            pattern => {
                check_pattern(pattern)?;
                Self::Pattern(pattern.into())
            }
        })
    }

    fn read(&self, text: &str) -> Option<Read> {
        match self {
            Self::Rfc3339 => text.parse().ok().map(Read::Rfc3339),
            Self::Rfc2822 => read_rfc2822(text),
            Self::EpochSeconds => text.parse().ok().and_then(|seconds| epoch(seconds, 1e9)),
            Self::EpochMillis => text.parse().ok().and_then(|millis| epoch(millis, 1e6)),
            Self::Pattern(pattern) => read_pattern(pattern, text),
        }
    }
}

/// The argument `tz=`.
fn zone(arguments: &mut Arguments) -> Result<Option<TimeZone>, Refused> {
    let Some(name) = arguments.named_text("tz")? else {
        return Ok(None);
    };
    match TimeZone::get(&name) {
        Ok(zone) => Ok(Some(zone)),
        Err(_) => Err(Refused::arguments(format!("there is no time zone `{name}`"))),
    }
}

/// Whether a format can be printed, and so read, at all.
fn check_pattern(pattern: &str) -> Result<(), Refused> {
    if !pattern.contains('%') {
        let message = format!(
            "`{pattern}` is no format: take rfc3339, rfc2822, epoch_s, epoch_ms or one like `%Y-%m-%d`"
        );
        return Err(Refused::arguments(message));
    }
    let sample = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    strtime::format(pattern, &sample)
        .map(drop)
        .map_err(|error| Refused::arguments(format!("`{pattern}` is no format: {error}")))
}

fn read_text(text: &str) -> Option<Read> {
    // Most are RFC 3339; a civil time or date is what has no offset; a letter first is RFC 2822.
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(Read::Rfc3339(timestamp));
    }
    if text.as_bytes().first()?.is_ascii_digit()
        && let Ok(civil) = text.parse::<DateTime>()
    {
        return Some(Read::Civil(civil));
    }
    read_rfc2822(text)
}

fn read_rfc2822(text: &str) -> Option<Read> {
    let zoned = rfc2822::parse(text).ok()?;
    Some(Read::At(zoned.timestamp(), Some(zoned.offset())))
}

/// The offset at the end of an RFC 3339 text, for dates as they were written.
fn offset_of(text: &str) -> Option<Offset> {
    let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
    pieces.to_numeric_offset()
}

fn read_number(number: f64) -> Option<Read> {
    epoch(number, if number.abs() >= FIRST_MILLIS { 1e6 } else { 1e9 })
}

/// A number of units of `nanoseconds` since 1970; to the microsecond, as far as a float is exact.
fn epoch(number: f64, nanoseconds: f64) -> Option<Read> {
    let micros = (number * (nanoseconds / 1e3)).round();
    if !micros.is_finite() || micros.abs() > 1e18 {
        return None;
    }
    Timestamp::from_microsecond(micros as i64).ok().map(|at| Read::At(at, None))
}

fn read_pattern(pattern: &str, text: &str) -> Option<Read> {
    let broken = strtime::parse(pattern, text).ok()?;
    if let Ok(zoned) = broken.to_zoned() {
        return Some(Read::At(zoned.timestamp(), Some(zoned.offset())));
    }
    if let Ok(timestamp) = broken.to_timestamp() {
        return Some(Read::At(timestamp, broken.offset()));
    }
    if let Ok(civil) = broken.to_datetime() {
        return Some(Read::Civil(civil));
    }
    broken.to_date().ok().map(|date| Read::Civil(date.at(0, 0, 0, 0)))
}

/// RFC 3339 in UTC, with as many decimals of a second as there are.
pub(super) fn timestamp(value: &Value, input: &TimeInput) -> Result<String, Fault> {
    Ok(input.timestamp(value)?.to_string())
}

/// The calendar's date: in `tz` where that is given, else as it was written (numbers: in UTC).
pub(super) fn date(value: &Value, input: &TimeInput) -> Result<String, Fault> {
    let date: Date = match (input.read(value)?, &input.zone) {
        (Read::At(timestamp, _) | Read::Rfc3339(timestamp), Some(zone)) => {
            zone.to_datetime(timestamp).date()
        }
        (Read::Rfc3339(timestamp), None) => {
            let offset = value.as_str().and_then(|text| offset_of(text.trim()));
            offset.unwrap_or(Offset::UTC).to_datetime(timestamp).date()
        }
        (Read::At(timestamp, offset), None) => {
            offset.unwrap_or(Offset::UTC).to_datetime(timestamp).date()
        }
        (Read::Civil(civil), _) => civil.date(),
    };
    Ok(date.to_string())
}

/// How a time is printed.
#[derive(Clone, Debug)]
pub(in crate::map) struct Strftime {
    pattern: Box<str>,
    input: TimeInput,
}

impl Strftime {
    pub(super) fn compile(arguments: &mut Arguments) -> Result<Self, Refused> {
        let pattern = arguments.required_text("the format")?;
        check_pattern(&pattern)?;
        let input = TimeInput { formats: Vec::new(), zone: zone(arguments)? };
        Ok(Self { pattern: pattern.into(), input })
    }

    /// In `tz`, or in UTC.
    pub(super) fn print(&self, value: &Value) -> Result<String, Fault> {
        let zone = self.input.zone.clone().unwrap_or(TimeZone::UTC);
        let zoned = self.input.timestamp(value)?.to_zoned(zone);
        strtime::format(&*self.pattern, &zoned)
            .map_err(|_| Fault::Here("the time cannot be printed in the given format".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn input(formats: &[&str], tz: Option<&str>) -> TimeInput {
        let mut arguments = Arguments {
            positional: formats.iter().map(|text| json!(text)).collect(),
            named: tz.iter().map(|tz| ("tz".to_owned(), json!(tz))).collect(),
        };
        TimeInput::compile(&mut arguments).unwrap()
    }

    fn check(value: &Value, formats: &[&str], tz: Option<&str>, at: &str, on: &str) {
        let input = input(formats, tz);
        let found = timestamp(value, &input).unwrap_or_else(|fault| fault.to_string());
        assert_eq!(found, at, "timestamp of {value}");
        let found = date(value, &input).unwrap_or_else(|fault| fault.to_string());
        assert_eq!(found, on, "date of {value}");
    }

    #[test]
    fn times_come_out_in_utc() {
        let z = |value: Value, at: &str, on: &str| check(&value, &[], None, at, on);
        z(json!("2026-11-20T10:00:00Z"), "2026-11-20T10:00:00Z", "2026-11-20");
        z(json!("2026-11-20T00:30:00+02:00"), "2026-11-19T22:30:00Z", "2026-11-20");
        z(json!("2026-11-20T10:00:00.250-05:00"), "2026-11-20T15:00:00.25Z", "2026-11-20");
        z(json!("2026-11-20 10:00:00Z"), "2026-11-20T10:00:00Z", "2026-11-20");
        z(json!("Fri, 20 Nov 2026 10:00:00 +0100"), "2026-11-20T09:00:00Z", "2026-11-20");
        z(json!(1_700_000_000), "2023-11-14T22:13:20Z", "2023-11-14");
        z(json!(1_700_000_000_250_i64), "2023-11-14T22:13:20.25Z", "2023-11-14");
        z(json!(1_700_000_000.5), "2023-11-14T22:13:20.5Z", "2023-11-14");
        z(json!(0), "1970-01-01T00:00:00Z", "1970-01-01");
    }

    #[test]
    fn a_time_without_a_zone_needs_one() {
        let none = "expected a time with a zone (or give `tz=`)";
        check(&json!("2026-11-20T10:00:00"), &[], None, none, "2026-11-20");
        check(&json!("2026-11-20"), &[], None, none, "2026-11-20");
        let berlin = Some("Europe/Berlin");
        check(&json!("2026-07-20 10:00:00"), &[], berlin, "2026-07-20T08:00:00Z", "2026-07-20");
        check(&json!("2026-11-20T23:30:00Z"), &[], berlin, "2026-11-20T23:30:00Z", "2026-11-21");
        // In the gap of spring the clock reads an hour later, in the fold of autumn the first counts.
        check(&json!("2026-03-29T02:30:00"), &[], berlin, "2026-03-29T01:30:00Z", "2026-03-29");
        check(&json!("2026-10-25T02:30:00"), &[], berlin, "2026-10-25T00:30:00Z", "2026-10-25");
    }

    #[test]
    fn given_formats_are_tried_in_order() {
        let formats = &["%d.%m.%Y %H:%M", "%d.%m.%Y", "epoch_ms"][..];
        let utc = Some("UTC");
        check(&json!("20.11.2026 10:05"), formats, utc, "2026-11-20T10:05:00Z", "2026-11-20");
        check(&json!("20.11.2026"), formats, utc, "2026-11-20T00:00:00Z", "2026-11-20");
        check(&json!("1700000000000"), formats, utc, "2023-11-14T22:13:20Z", "2023-11-14");
        let odd = "expected a time of the given format, found a string";
        check(&json!("2026-11-20T10:00:00Z"), formats, utc, odd, odd);
        let slack = &["epoch_s"][..];
        check(&json!("1700000000.000100"), slack, None, "2023-11-14T22:13:20.0001Z", "2023-11-14");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for value in [json!("soon"), json!(""), json!(true), json!({}), json!(1e300)] {
            assert!(timestamp(&value, &input(&[], None)).is_err(), "{value}");
        }
        let refused = |formats: &[&str], tz: Option<&str>| {
            let mut arguments = Arguments {
                positional: formats.iter().map(|text| json!(text)).collect(),
                named: tz.iter().map(|tz| ("tz".to_owned(), json!(tz))).collect(),
            };
            TimeInput::compile(&mut arguments).unwrap_err().message
        };
        assert_eq!(refused(&[], Some("Europe/Berln")), "there is no time zone `Europe/Berln`");
        assert!(refused(&["iso"], None).starts_with("`iso` is no format"));
        assert!(refused(&["%!"], None).starts_with("`%!` is no format"));
    }
}
