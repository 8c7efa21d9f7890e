//! `decimal` and `sum`: digits are kept as digits, never put through a float.

use crate::map::{
    fault::Fault,
    flow::{Flow, Scalar},
};

use super::{Arguments, Refused};

/// More digits than this are not a number somebody counts with.
const MAX_DIGITS: usize = 400;
/// Largest scale that `decimal(n)` takes.
const MAX_SCALE: u64 = 60;
/// From 2^53 on a JSON float may have lost digits on its way here.
const MAX_EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// A decimal number as digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    /// ASCII digits, the last `scale` of them after the point.
    digits: Vec<u8>,
    scale: usize,
}

impl Decimal {
    /// `-12.50`, `+1`, `.5`, `1e3`: a sign, digits with at most one point, an exponent.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit)
        {
            return None;
        }
        let scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        if scale.unsigned_abs() as usize > MAX_DIGITS {
            return None;
        }
        // 1e3 has three more digits before the point.
        digits.extend(std::iter::repeat_n(b'0', usize::try_from(-scale).unwrap_or(0)));
        let mut decimal = Self { negative, digits, scale: usize::try_from(scale).unwrap_or(0) };
        decimal.tidy();
        Some(decimal)
    }

    /// One digit before the point at least, no more zeros than that, no negative zero.
    fn tidy(&mut self) {
        let wanted = self.scale + 1;
        if self.digits.len() < wanted {
            let zeros = wanted - self.digits.len();
            self.digits.splice(..0, std::iter::repeat_n(b'0', zeros));
        }
        let spare = self.digits.len() - wanted;
        let zeros = self.digits.iter().take(spare).take_while(|&&digit| digit == b'0').count();
        self.digits.drain(..zeros);
        if self.digits.iter().all(|&digit| digit == b'0') {
            self.negative = false;
        }
    }

    /// Pads with zeros, or rounds half away from zero.
    fn rescale(&mut self, scale: usize) {
        if scale >= self.scale {
            self.digits.extend(std::iter::repeat_n(b'0', scale - self.scale));
            self.scale = scale;
            return;
        }
        let kept = self.digits.len() - (self.scale - scale);
        let up = self.digits[kept] >= b'5';
        self.digits.truncate(kept);
        self.scale = scale;
        if up {
            self.increment();
        }
        self.tidy();
    }

    /// One more in the last place.
    fn increment(&mut self) {
        for digit in self.digits.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
        self.digits.insert(0, b'1');
    }

    /// Its digits, where there is no fraction but zeros.
    pub fn whole(&self) -> Option<String> {
        let fraction = &self.digits[self.digits.len() - self.scale..];
        let mut whole = Self { scale: 0, ..self.clone() };
        whole.digits.truncate(self.digits.len() - self.scale);
        fraction.iter().all(|&digit| digit == b'0').then(|| whole.print())
    }

    pub fn print(&self) -> String {
        let point = self.digits.len() - self.scale;
        let mut text = String::with_capacity(self.digits.len() + 2);
        if self.negative {
            text.push('-');
        }
        text.extend(self.digits[..point].iter().map(|&digit| char::from(digit)));
        if self.scale > 0 {
            text.push('.');
            text.extend(self.digits[point..].iter().map(|&digit| char::from(digit)));
        }
        text
    }

    /// As an integer of units of 10^-scale; `None` beyond 38 digits.
    fn units(&self, scale: usize) -> Option<i128> {
        let mut padded = self.clone();
        padded.rescale(scale.max(self.scale));
        let digits = std::str::from_utf8(&padded.digits).ok()?.parse::<i128>().ok()?;
        Some(if self.negative { -digits } else { digits })
    }
}

/// The argument of `decimal(scale)`.
pub(super) fn scale_of(arguments: &mut Arguments) -> Result<Option<u32>, Refused> {
    match arguments.next().or_else(|| arguments.named("scale")) {
        None => Ok(None),
        Some(value) => value
            .as_u64()
            .filter(|scale| *scale <= MAX_SCALE)
            .and_then(|scale| u32::try_from(scale).ok())
            .map(Some)
            .ok_or_else(|| {
                Refused::arguments(format!("a decimal's scale is a number from 0 to {MAX_SCALE}"))
            }),
    }
}

fn parse(input: &Flow<'_>) -> Result<Decimal, Fault> {
    let decimal = match input.scalar() {
        Scalar::Text(text) => Decimal::parse(text.trim()),
        Scalar::Digits(text) => Decimal::parse(&text),
        Scalar::Float(float) if float.abs() >= MAX_EXACT_FLOAT => {
            let message = "expected digits, found a number so large that a float has lost some";
            return Err(Fault::Here(message.to_owned()));
        }
        Scalar::Float(float) => Decimal::parse(&float.to_string()),
        _ => None,
    };
    decimal.ok_or_else(|| Fault::expected("digits", input))
}

/// A decimal as a JSON string: all the digits it came with, or `scale` of them after the point,
/// padded with zeros or rounded half away from zero.
pub(super) fn decimal(input: &Flow<'_>, scale: Option<u32>) -> Result<String, Fault> {
    // Most come as they should go.
    if let (Scalar::Text(text) | Scalar::Digits(text), None) = (input.scalar(), scale)
        && is_plain(text.as_bytes())
    {
        return Ok(text.into_owned());
    }
    let mut decimal = parse(input)?;
    if let Some(scale) = scale {
        decimal.rescale(scale as usize);
    }
    Ok(decimal.print())
}

/// Digits, a point, digits; no leading zero that says nothing, no sign.
fn is_plain(text: &[u8]) -> bool {
    let point = text.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b"0"[..]),
    };
    !whole.is_empty()
        && !fraction.is_empty()
        && (whole.len() == 1 || whole[0] != b'0')
        && text.len() <= MAX_DIGITS
        && whole.iter().chain(fraction).all(u8::is_ascii_digit)
}

/// The sum of an array: of JSON numbers a number, and once there is a text of digits among them a
/// decimal (a text). Exact either way.
pub(super) fn sum<'a>(input: &Flow<'_>) -> Result<Flow<'a>, Fault> {
    let Some(items) = input.items() else {
        return Err(Fault::expected("an array", input));
    };
    let too_large = || Fault::Here("the sum has more digits than can be kept".to_owned());
    let decimals = items
        .iter()
        .enumerate()
        .map(|(at, item)| parse(item).map_err(|fault| fault.of_item(at)))
        .collect::<Result<Vec<_>, _>>()?;
    let scale = decimals.iter().map(|decimal| decimal.scale).max().unwrap_or(0);
    let total = decimals
        .iter()
        .try_fold(0_i128, |sum, decimal| sum.checked_add(decimal.units(scale)?))
        .ok_or_else(too_large)?;
    let mut sum = Decimal {
        negative: total < 0,
        digits: total.unsigned_abs().to_string().into_bytes(),
        scale,
    };
    sum.tidy();
    let text = sum.print();
    let any_text = items.iter().any(|item| matches!(item.scalar(), Scalar::Text(_)));
    Ok(if any_text { text.into() } else { Flow::digits(&text) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn check(value: &Value, scale: Option<u32>, expected: &str) {
        let found =
            decimal(&Flow::Borrowed(value), scale).unwrap_or_else(|fault| fault.to_string());
        assert_eq!(found, expected, "{value} at {scale:?}");
    }

    #[test]
    fn digits_are_kept() {
        for (text, expected) in [
            ("129.90", "129.90"),
            ("0", "0"),
            ("-0.00", "0.00"),
            ("007.50", "7.50"),
            ("+1", "1"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1e3", "1000"),
            ("1.25e-2", "0.0125"),
            ("12345678901234567890.123456789", "12345678901234567890.123456789"),
            (" 1.0 ", "1.0"),
            ("-.5", "-0.5"),
        ] {
            check(&json!(text), None, expected);
        }
        check(&json!(129.9), None, "129.9");
        check(&json!(7), None, "7");
        check(&json!(1e-7), None, "0.0000001");
        check(&json!(u64::MAX), None, "18446744073709551615");
    }

    #[test]
    fn a_scale_pads_or_rounds_half_away_from_zero() {
        for (text, scale, expected) in [
            ("1", 2, "1.00"),
            ("1.005", 2, "1.01"),
            ("-1.005", 2, "-1.01"),
            ("1.004", 2, "1.00"),
            ("9.995", 2, "10.00"),
            ("0.5", 0, "1"),
            ("-0.4", 0, "0"),
            ("99", 0, "99"),
        ] {
            check(&json!(text), Some(scale), expected);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for (value, expected) in [
            (json!(""), "expected digits, found a string"),
            (json!("1,000.00"), "expected digits, found a string"),
            (json!("1.2.3"), "expected digits, found a string"),
            (json!("NaN"), "expected digits, found a string"),
            (json!("1e999999999999"), "expected digits, found a string"),
            (json!("1e-9223372036854775808"), "expected digits, found a string"),
            (json!(true), "expected digits, found a boolean"),
            (json!(null), "expected digits, found null"),
            (json!(1e22), "expected digits, found a number so large that a float has lost some"),
        ] {
            check(&value, None, expected);
        }
    }

    #[test]
    fn sums_are_exact() {
        let cases = [
            (json!([]), json!(0)),
            (json!([1, 2, 3]), json!(6)),
            (json!([0.1, 0.2]), json!(0.3)),
            (json!(["0.10", "0.20"]), json!("0.30")),
            (json!(["1.5", -2]), json!("-0.5")),
            (json!([u64::MAX, 0]), json!(u64::MAX)),
        ];
        for (items, expected) in cases {
            let found = sum(&Flow::Borrowed(&items)).unwrap().into_value().unwrap();
            assert_eq!(found, expected);
        }
        assert!(sum(&Flow::Owned(json!([1, "x"]))).is_err());
        assert!(sum(&Flow::Owned(json!({}))).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn integers_and_fractions_survive(whole in 0_u64.., fraction in "[0-9]{1,12}") {
            let text = format!("{whole}.{fraction}");
            prop_assert_eq!(decimal(&json!(text.clone()).into(), None).unwrap(), text);
        }

        #[test]
        fn rounding_is_that_of_integers(units in -1_000_000_000_i64..1_000_000_000) {
            let text = format!("{units}e-3");
            let expected = (units.abs() + 5) / 10 * units.signum();
            let found = decimal(&json!(text).into(), Some(2)).unwrap();
            prop_assert_eq!(found.replace('.', "").parse::<i64>().unwrap(), expected);
        }
    }
}
