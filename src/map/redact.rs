//! Masks fields before a record is shown.

use serde_json::Value;

/// What stands in place of a masked value.
const MASK: &str = "[redacted]";

/// Replaces the fields at the given paths (`customer.email`, through arrays) by `"[redacted]"`.
/// Paths that lead nowhere are ignored.
pub fn redact(value: &mut Value, fields: &[String]) {
    for field in fields {
        mask(value, field);
    }
}

fn mask(value: &mut Value, path: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, path)),
        Value::Object(members) => {
            // A field's own name may have dots.
            if let Some(field) = members.get_mut(path) {
                *field = Value::from(MASK);
            }
            if let Some((first, rest)) = path.split_once('.')
                && let Some(inner) = members.get_mut(first)
            {
                mask(inner, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_masked_wherever_they_are() {
        let mut value = json!({
            "customer": { "email": "a@b.example", "name": "A" },
            "lines": [{ "note": "x", "sku": 1 }, { "note": { "deep": true } }],
            "odd.name": 1,
        });
        let fields = ["customer.email", "lines.note", "odd.name", "no.such"].map(str::to_owned);
        redact(&mut value, &fields);
        assert_eq!(
            value,
            json!({
                "customer": { "email": "[redacted]", "name": "A" },
                "lines": [{ "note": "[redacted]", "sku": 1 }, { "note": "[redacted]" }],
                "odd.name": "[redacted]",
            })
        );
    }
}
