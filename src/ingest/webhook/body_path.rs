//! Writing into a body where a path leads: for tests, which sign what they send. Pure.

use serde_json::{Map, Value};

/// A step of a path.
enum Step<'p> {
    Name(&'p str),
    Index(usize),
    /// Every item.
    All,
}

/// Writes `text` where `$.a.b[0].c` or `$.a[*].b` leads; members that are missing are made. `None`:
/// the path leads through something else than tables and lists, or is of another form.
pub(super) fn put(body: &mut Value, path: &str, text: &str) -> Option<()> {
    let steps = steps(path.trim().strip_prefix('$')?)?;
    write(body, &steps, text)
}

fn steps(mut rest: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, tail) = after.split_at(end);
            if name.is_empty() {
                return None;
            }
            steps.push(Step::Name(name));
            rest = tail;
        } else {
            let (inner, tail) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(match inner {
                "*" => Step::All,
                _ => match inner.trim_matches(['\'', '"']) {
                    name if name.len() < inner.len() => Step::Name(name),
                    number => Step::Index(number.parse().ok()?),
                },
            });
            rest = tail;
        }
    }
    Some(steps)
}

fn write(at: &mut Value, steps: &[Step<'_>], text: &str) -> Option<()> {
    let Some((step, rest)) = steps.split_first() else {
        *at = text.into();
        return Some(());
    };
    match step {
        Step::Name(name) => {
            if at.is_null() {
                *at = Value::Object(Map::new());
            }
            let member = at.as_object_mut()?.entry((*name).to_owned()).or_insert(Value::Null);
            write(member, rest, text)
        }
        Step::Index(index) => write(at.as_array_mut()?.get_mut(*index)?, rest, text),
        Step::All => at.as_array_mut()?.iter_mut().try_for_each(|item| write(item, rest, text)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_written_where_the_path_leads() {
        let mut body = json!({"items": [{"a": 1}, {"a": 2}]});
        put(&mut body, "$.items[0].x.sign", "s").unwrap();
        put(&mut body, "$.items[*].t", "t").unwrap();
        put(&mut body, "$['top']", "u").unwrap();
        let expected = json!({"items": [{"a": 1, "x": {"sign": "s"}, "t": "t"}, {"a": 2, "t": "t"}], "top": "u"});
        assert_eq!(body, expected);
        assert_eq!(put(&mut body, "$.items[7].t", "t"), None);
        assert_eq!(put(&mut body, "$.top.t", "t"), None);
        assert_eq!(put(&mut body, "$..t", "t"), None);
    }
}
