//! What a shadow found so far. Pure; kept as JSON under `rollout/shadow/<variant>`, so that a restart
//! goes on counting. Fields are only ever added, with defaults.
//!
//! Bounded however long it runs: so many fields, samples a field, and messages; what is left out is
//! counted.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::compare::{Difference, Kind, Step, compare, value_at};
use crate::{
    observe::{fields::Masks, redact},
    world::Timestamp,
};

/// Fields that are told apart.
const MOST_FIELDS: usize = 200;
/// Samples of each.
const SAMPLES: usize = 3;
/// Messages of failing maps that are told apart.
const MOST_FAILURES: usize = 20;
/// A sample's value is cut here.
const VALUE_CHARS: usize = 200;

/// What came of one document.
pub type Mapped<'m> = Result<&'m Value, (&'m str, &'m str)>;

/// One event, as both made it.
pub struct Pair<'p> {
    pub stream: &'p str,
    /// `evt_…`
    pub event: String,
    pub original: Mapped<'p>,
    pub shadow: Mapped<'p>,
    /// Field paths that must not be shown: both plans'.
    pub redact: &'p [String],
    /// What must not be shown under another name either. Asked for where samples are taken.
    pub masks: &'p dyn Fn() -> Masks,
    pub at: Timestamp,
}

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShadowReport {
    /// Since when is counted: since the shadow or its original last changed.
    pub since: Timestamp,
    /// The contents that are compared.
    #[serde(default)]
    pub contents: (String, String),
    /// Events that both mapped, or tried to.
    pub compared: u64,
    /// Events left out, more of them coming in than are compared.
    #[serde(default)]
    pub left_out: u64,
    /// Both made the same.
    pub same: u64,
    /// Both made a document, and they differ.
    pub differing: u64,
    /// Only the shadow failed.
    pub failing: u64,
    /// Only the original failed.
    #[serde(default)]
    pub mended: u64,
    /// Both failed.
    #[serde(default)]
    pub both_failing: u64,
    /// The fields that differ, most often first.
    pub fields: Vec<FieldReport>,
    /// Differences in fields beyond those.
    #[serde(default)]
    pub further_differences: u64,
    /// Why the shadow's map or schema fails, most often first.
    pub failures: Vec<FailureReport>,
    /// Failures with messages beyond those.
    #[serde(default)]
    pub further_failures: u64,
}

/// One field that differs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FieldReport {
    /// The stream.
    pub stream: String,
    /// As the map names it, `lines[].sku` for all items; empty for the document as a whole.
    pub field: String,
    /// Events in which only the original has it.
    pub missing: u64,
    /// Events in which only the shadow has it.
    pub added: u64,
    /// Events in which both have it, and otherwise.
    pub changed: u64,
    /// When it was last seen.
    pub last_at: Timestamp,
    /// The first of them.
    pub samples: Vec<FieldSample>,
}

impl FieldReport {
    /// Events in which it differs.
    pub fn events(&self) -> u64 {
        self.missing + self.added + self.changed
    }
}

/// One event's field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FieldSample {
    /// `evt_…`
    pub event: String,
    /// The original's value as JSON, masked and cut; nothing where it has none.
    pub original: Option<String>,
    /// The shadow's.
    pub shadow: Option<String>,
}

/// One way in which the shadow fails.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FailureReport {
    /// The stream.
    pub stream: String,
    /// `map_failed`, `schema_failed`, `panicked`.
    pub reason: String,
    /// Field, path, type and place; no values.
    pub message: String,
    /// Events.
    pub events: u64,
    /// The first of them.
    pub event: String,
}

impl ShadowReport {
    /// Nothing is compared yet.
    pub fn new(since: Timestamp, contents: (String, String)) -> Self {
        Self { since, contents, ..Self::default() }
    }

    /// Takes one event in.
    pub fn add(&mut self, pair: &Pair<'_>) {
        self.compared += 1;
        match (pair.original, pair.shadow) {
            (Ok(original), Ok(shadow)) => self.documents(pair, original, shadow),
            (Ok(_), Err((reason, message))) => {
                self.failing += 1;
                self.failure(pair, reason, message);
            }
            (Err(_), Ok(_)) => self.mended += 1,
            (Err(_), Err(_)) => self.both_failing += 1,
        }
    }

    fn documents(&mut self, pair: &Pair<'_>, original: &Value, shadow: &Value) {
        let differences = compare(original, shadow);
        if differences.is_empty() {
            self.same += 1;
            return;
        }
        self.differing += 1;
        let mut masked = None;
        let mut counted: Vec<usize> = Vec::new();
        for difference in &differences {
            let Some(at) = self.field(pair.stream, &difference.field) else {
                self.further_differences += 1;
                continue;
            };
            // A field of many items counts once an event.
            if counted.contains(&at) {
                continue;
            }
            counted.push(at);
            let field = &mut self.fields[at];
            field.last_at = pair.at;
            match difference.kind {
                Kind::Missing => field.missing += 1,
                Kind::Added => field.added += 1,
                Kind::Changed => field.changed += 1,
            }
            if field.samples.len() < SAMPLES {
                let (original, shadow, masks) = masked.get_or_insert_with(|| {
                    let [original, shadow] = [original, shadow].map(|document| {
                        let mut document = document.clone();
                        redact::mask(&mut document, pair.redact);
                        document
                    });
                    (original, shadow, (pair.masks)())
                });
                field.samples.push(sample(pair, difference, original, shadow, masks));
            }
        }
        self.fields.sort_by_key(|field| std::cmp::Reverse(field.events()));
    }

    /// The place of a field's line; `None` where there are too many.
    fn field(&mut self, stream: &str, field: &str) -> Option<usize> {
        let known = self.fields.iter().position(|it| it.stream == stream && it.field == field);
        if known.is_none() && self.fields.len() < MOST_FIELDS {
            let (stream, field) = (stream.to_owned(), field.to_owned());
            self.fields.push(FieldReport { stream, field, ..FieldReport::default() });
            return Some(self.fields.len() - 1);
        }
        known
    }

    fn failure(&mut self, pair: &Pair<'_>, reason: &str, message: &str) {
        let mut known = self.failures.iter_mut();
        let is_same = |it: &&mut FailureReport| it.stream == pair.stream && it.message == message;
        if let Some(failure) = known.find(is_same) {
            failure.events += 1;
        } else if self.failures.len() < MOST_FAILURES {
            self.failures.push(FailureReport {
                stream: pair.stream.to_owned(),
                reason: reason.to_owned(),
                message: message.to_owned(),
                events: 1,
                event: pair.event.clone(),
            });
        } else {
            self.further_failures += 1;
        }
        self.failures.sort_by_key(|failure| std::cmp::Reverse(failure.events));
    }
}

fn sample(
    pair: &Pair<'_>,
    difference: &Difference,
    original: &Value,
    shadow: &Value,
    masks: &Masks,
) -> FieldSample {
    let shown = |document: &Value, is_there: bool| {
        is_there.then(|| shown(document, &difference.way, &difference.field, masks))
    };
    FieldSample {
        event: pair.event.clone(),
        original: shown(original, difference.kind != Kind::Added),
        shadow: shown(shadow, difference.kind != Kind::Missing),
    }
}

/// The value in a masked document: where the way no longer leads there, what it is in is masked.
fn shown(document: &Value, way: &[Step], field: &str, masks: &Masks) -> String {
    let Some(value) = value_at(document, way) else { return Value::from(redact::MASK).to_string() };
    let text = masks.shown(field, value).to_string();
    match text.char_indices().nth(VALUE_CHARS) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, Strategy as _, any, prop, prop_assert_eq, proptest};
    use serde_json::json;

    use super::*;

    fn add(report: &mut ShadowReport, original: &Value, shadow: &Value) {
        report.add(&Pair {
            stream: "orders",
            event: format!("evt_{}", report.compared + 1),
            original: Ok(original),
            shadow: Ok(shadow),
            redact: &["customer.email".to_owned()],
            masks: &Masks::default,
            at: Timestamp(7),
        });
    }

    #[test]
    fn a_field_has_its_count_and_masked_samples() {
        let mut report = ShadowReport::default();
        let document = |total: &str, email: &str| json!({"total": total, "customer": {"email": email}, "lines": [{"n": total}, {"n": total}]});
        for n in 0..5 {
            add(
                &mut report,
                &document("1.50", "a@b.example"),
                &document("1.5", &format!("{n}@b.example")),
            );
        }
        add(&mut report, &document("2", "x"), &document("2", "x"));
        assert_eq!((report.compared, report.same, report.differing), (6, 1, 5));
        let told: Vec<_> =
            report.fields.iter().map(|f| (&*f.field, f.changed, f.samples.len())).collect();
        assert_eq!(told, [("total", 5, 3), ("customer.email", 5, 3), ("lines[].n", 5, 3)]);
        let sample = |field: usize| report.fields[field].samples[0].clone();
        assert_eq!(
            (sample(0).original.as_deref(), sample(0).shadow.as_deref()),
            (Some("\"1.50\""), Some("\"1.5\""))
        );
        assert_eq!(sample(1).original.as_deref(), Some("\"[redacted]\""));
        let text = serde_json::to_string(&report).unwrap();
        assert!(!text.contains("b.example"), "{text}");
    }

    #[test]
    fn who_fails_is_told_apart() {
        let mut report = ShadowReport::default();
        let document = json!({"a": 1});
        let (good, bad): (Mapped<'_>, Mapped<'_>) = (Ok(&document), Err(("map_failed", "a: no")));
        for (original, shadow) in [(good, bad), (good, bad), (bad, good), (bad, bad)] {
            let event = "evt_1".to_owned();
            report.add(&Pair {
                stream: "s",
                event,
                original,
                shadow,
                redact: &[],
                masks: &Masks::default,
                at: Timestamp(0),
            });
        }
        assert_eq!((report.failing, report.mended, report.both_failing), (2, 1, 1));
        assert_eq!((&*report.failures[0].message, report.failures[0].events), ("a: no", 2));
    }

    #[test]
    fn it_is_bounded() {
        let mut report = ShadowReport::default();
        for n in 0..MOST_FIELDS + 50 {
            add(&mut report, &json!({}), &json!({format!("f{n}"): "x".repeat(9_999)}));
        }
        assert_eq!((report.fields.len(), report.further_differences), (MOST_FIELDS, 50));
        let longest =
            report.fields.iter().flat_map(|f| &f.samples).filter_map(|s| s.shadow.as_ref());
        assert!(longest.map(|text| text.chars().count()).max() <= Some(VALUE_CHARS + 1));
        for n in 0..MOST_FAILURES + 5 {
            let message = format!("m{n}");
            let document = json!(1);
            let shadow = Err(("map_failed", &*message));
            let event = String::new();
            let pair = Pair {
                stream: "s",
                event,
                original: Ok(&document),
                shadow,
                redact: &[],
                masks: &Masks::default,
                at: Timestamp(0),
            };
            report.add(&pair);
        }
        assert_eq!((report.failures.len(), report.further_failures), (MOST_FAILURES, 5));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_report_comes_back_as_it_was(
            counts in prop::array::uniform9(any::<u64>()),
            texts in prop::array::uniform4(".{0,9}"),
            value in prop::option::of(".{0,9}"),
            at in any::<i64>().prop_map(Timestamp),
        ) {
            let [a, b, c, d] = texts;
            let sample = FieldSample { event: a.clone(), original: value.clone(), shadow: value };
            let report = ShadowReport {
                since: at,
                contents: (a.clone(), b.clone()),
                compared: counts[0],
                left_out: counts[1],
                same: counts[2],
                differing: counts[3],
                failing: counts[4],
                mended: counts[5],
                both_failing: counts[6],
                fields: vec![FieldReport {
                    stream: a.clone(), field: b.clone(), missing: counts[0], added: counts[1],
                    changed: counts[2], last_at: at, samples: vec![sample],
                }],
                further_differences: counts[7],
                failures: vec![FailureReport { stream: a, reason: b, message: c, events: counts[3], event: d }],
                further_failures: counts[8],
            };
            let stored = serde_json::to_vec(&report).unwrap();
            prop_assert_eq!(serde_json::from_slice::<ShadowReport>(&stored).unwrap(), report);
        }
    }
}
