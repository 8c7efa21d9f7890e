//! In which fields two documents differ. Pure.
//!
//! Fields are named as a reader of the map names them: `customer.email`, and `lines[].sku` for all
//! items of a list, so that a report has one line a field however long lists are.

use serde_json::Value;

/// Of one document so many differences are told; one that is all different says so soon enough.
const MOST_DIFFERENCES: usize = 64;

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only the original has the field.
    Missing,
    /// Only the shadow has it.
    Added,
    /// Both have it, with different values, types or lengths.
    Changed,
}

/// One field in which two documents differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `lines[].sku`; empty for the document as a whole.
    pub field: String,
    /// The way to it in these two documents.
    pub way: Vec<Step>,
    pub kind: Kind,
}

/// One step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Member(String),
    Item(usize),
}

/// The fields in which the shadow's document differs from the original's, in the original's order.
pub fn compare(original: &Value, shadow: &Value) -> Vec<Difference> {
    let mut walk = Walk { way: Vec::new(), found: Vec::new() };
    walk.values(original, shadow);
    walk.found
}

/// The value at the end of the way, if the way leads there.
pub fn value_at<'v>(document: &'v Value, way: &[Step]) -> Option<&'v Value> {
    way.iter().try_fold(document, |value, step| match step {
        Step::Member(name) => value.get(name),
        Step::Item(at) => value.get(at),
    })
}

struct Walk {
    way: Vec<Step>,
    found: Vec<Difference>,
}

impl Walk {
    fn values(&mut self, original: &Value, shadow: &Value) {
        if self.found.len() >= MOST_DIFFERENCES {
            return;
        }
        match (original, shadow) {
            (Value::Object(original), Value::Object(shadow)) => {
                for (name, value) in original {
                    self.within(Step::Member(name.clone()), |walk| match shadow.get(name) {
                        Some(other) => walk.values(value, other),
                        None => walk.note(Kind::Missing),
                    });
                }
                for name in shadow.keys().filter(|name| !original.contains_key(*name)) {
                    self.within(Step::Member(name.clone()), |walk| walk.note(Kind::Added));
                }
            }
            // Of lists that are not of one length nobody knows which items belong together.
            (Value::Array(original), Value::Array(shadow)) if original.len() == shadow.len() => {
                for (at, (value, other)) in original.iter().zip(shadow).enumerate() {
                    self.within(Step::Item(at), |walk| walk.values(value, other));
                }
            }
            _ if original == shadow => {}
            _ => self.note(Kind::Changed),
        }
    }

    fn within(&mut self, step: Step, look: impl FnOnce(&mut Self)) {
        self.way.push(step);
        look(self);
        self.way.pop();
    }

    fn note(&mut self, kind: Kind) {
        if self.found.len() < MOST_DIFFERENCES {
            let field = named(&self.way);
            self.found.push(Difference { field, way: self.way.clone(), kind });
        }
    }
}

fn named(way: &[Step]) -> String {
    let mut field = String::new();
    for step in way {
        match step {
            Step::Item(_) => field.push_str("[]"),
            Step::Member(name) => {
                if !field.is_empty() {
                    field.push('.');
                }
                field.push_str(name);
            }
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(original: &Value, shadow: &Value) -> Vec<String> {
        let found = compare(original, shadow);
        found.iter().map(|found| format!("{} {:?}", found.field, found.kind)).collect()
    }

    #[test]
    fn the_table() {
        let original = json!({
            "id": "1", "total": "129.90", "customer": {"email": "a@b.example", "name": "A"},
            "lines": [{"sku": "x", "n": 1}, {"sku": "y", "n": 2}], "tags": ["a"], "none": null,
        });
        let with = |edit: &dyn Fn(&mut Value)| {
            let mut shadow = original.clone();
            edit(&mut shadow);
            told(&original, &shadow)
        };
        assert_eq!(with(&|_| {}), [""; 0]);
        assert_eq!(with(&|s| s["total"] = json!(129.90)), ["total Changed"]);
        assert_eq!(
            with(&|s| s["customer"] = json!({"email": "a@b.example"})),
            ["customer.name Missing"]
        );
        assert_eq!(with(&|s| s["customer"]["vip"] = json!(true)), ["customer.vip Added"]);
        assert_eq!(
            with(&|s| {
                s["lines"][0]["sku"] = json!("X");
                s["lines"][1]["sku"] = json!("Y");
            }),
            ["lines[].sku Changed", "lines[].sku Changed"]
        );
        assert_eq!(with(&|s| s["tags"] = json!(["a", "b"])), ["tags Changed"]);
        assert_eq!(with(&|s| s["none"] = json!("")), ["none Changed"]);
        assert_eq!(told(&json!([1]), &json!({"a": 1})), [" Changed"]);
    }

    #[test]
    fn a_way_leads_to_its_value_and_differences_are_bounded() {
        let document = json!({"lines": [{"sku": "x"}, {"sku": "y"}]});
        let other = json!({"lines": [{"sku": "x"}, {"sku": "z"}]});
        let found = compare(&document, &other);
        assert_eq!(value_at(&other, &found[0].way), Some(&json!("z")));
        assert_eq!(value_at(&json!({"lines": "[redacted]"}), &found[0].way), None);
        let long = |value| Value::Array(vec![json!(value); 500]);
        assert_eq!(compare(&long(1), &long(2)).len(), MOST_DIFFERENCES);
    }
}
