//! The records in an answer: where they are, what names them, what moves, and what is in them.

use serde_json::{Map, Value};

use super::{Guess, Maps, member, plain, table_name};

/// Names of the array that an API wraps its records in.
const WRAPPERS: &[&str] = &[
    "data", "items", "results", "records", "value", "values", "entries", "objects", "rows", "list",
];
/// Arrays that are about the answer, not in it.
const NOT_RECORDS: &[&str] = &["errors", "warnings", "links", "included", "messages", "meta"];
/// Deeper in the answer nobody keeps records.
const MAX_DEPTH: usize = 4;
/// Objects with more fields, or deeper ones, are taken over as a whole.
const MAX_FIELDS: usize = 40;

/// Where the records are.
pub(super) struct Found<'a> {
    pub records: Vec<&'a Value>,
    pub path: Guess<Option<String>>,
    pub stream: String,
}

pub(super) fn find<'a>(response: &'a Value, topic: Option<&str>) -> Result<Found<'a>, String> {
    let stream = |name: Option<&str>| table_name(topic.or(name).unwrap_or("records"));
    if let Value::Array(items) = response {
        return if items.iter().any(Value::is_object) {
            let path = Guess::sure(None, "the answer is the list of records");
            Ok(Found { records: items.iter().collect(), path, stream: stream(None) })
        } else {
            Err("the answer is a list without objects: there is no record to learn from".to_owned())
        };
    }
    let Value::Object(object) = response else {
        return Err("expected an object or a list of objects as the answer".to_owned());
    };
    let mut found = Vec::new();
    arrays(object, &mut Vec::new(), &mut found);
    let score = |(names, items): &(Vec<String>, &Vec<Value>)| {
        let last = names.last().map(String::as_str).unwrap_or_default();
        let is_named = WRAPPERS.contains(&plain(last).as_str())
            || topic.is_some_and(|topic| plain(topic) == plain(last));
        (is_named, std::cmp::Reverse(names.len()), items.len())
    };
    let has_id = object.keys().any(|name| matches!(plain(name).as_str(), "id" | "uuid" | "gid"));
    let best = found.iter().max_by_key(|one| score(one)).cloned();
    match best {
        Some(best) if !has_id || score(&best).0 => {
            let (names, items) = best;
            let path = format!("${}[*]", names.iter().map(|name| member(name)).collect::<String>());
            let last = names.last().cloned();
            let why = format!("the list of {} objects at `{}`", items.len(), names.join("."));
            let is_sure = found.len() == 1 || score(&(names.clone(), items)).0;
            let guess = if is_sure {
                Guess::sure(Some(path), why)
            } else {
                let others = found.len() - 1;
                Guess::look(Some(path), format!("{why}; there are {others} more lists of objects"))
            };
            let name = last.filter(|last| !WRAPPERS.contains(&plain(last).as_str()));
            Ok(Found {
                records: items.iter().collect(),
                path: guess,
                stream: stream(name.as_deref()),
            })
        }
        _ if object.is_empty() => {
            Err("the answer is empty: there is no record to learn from".to_owned())
        }
        _ => {
            let path =
                Guess::look(None, "there is no list of objects, so the answer is the one record");
            Ok(Found { records: vec![response], path, stream: stream(None) })
        }
    }
}

fn arrays<'a>(
    object: &'a Map<String, Value>,
    at: &mut Vec<String>,
    found: &mut Vec<(Vec<String>, &'a Vec<Value>)>,
) {
    for (name, value) in object {
        if NOT_RECORDS.contains(&plain(name).as_str()) {
            continue;
        }
        at.push(name.clone());
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                found.push((at.clone(), items));
            }
            Value::Object(inner) if at.len() < MAX_DEPTH => arrays(inner, at, found),
            _ => {}
        }
        at.pop();
    }
}

/// What names a record.
pub(super) fn key(
    records: &[&Map<String, Value>],
    stream: &str,
    is_made_up: bool,
) -> Guess<Option<String>> {
    let singular = plain(stream.strip_suffix('s').unwrap_or(stream));
    let rank = |name: &str| -> Option<usize> {
        let plain = plain(name);
        let exact = ["id", "uuid", "guid", "gid", "key"];
        if let Some(at) = exact.iter().position(|known| *known == plain) {
            return Some(at);
        }
        let own = ["id", "uuid", "key", "number", "code"];
        if own.iter().any(|end| plain == format!("{singular}{end}")) {
            return Some(10);
        }
        let ends = |end| name.ends_with(end);
        if ends("_id") || ends("Id") || ends("ID") {
            return Some(20);
        }
        ["number", "code", "sku", "slug", "reference", "name"]
            .iter()
            .position(|known| *known == plain)
            .map(|at| 30 + at)
    };
    let is_name = |value: &Value| {
        value.is_i64() || value.is_u64() || value.as_str().is_some_and(|t| !t.is_empty())
    };
    let mut candidates: Vec<(usize, &String)> = records
        .first()
        .into_iter()
        .flat_map(|first| first.keys())
        .filter_map(|name| Some((rank(name)?, name)))
        .filter(|(_, name)| records.iter().all(|record| record.get(*name).is_some_and(is_name)))
        .filter(|(_, name)| {
            let mut seen: Vec<&Value> =
                records.iter().filter_map(|record| record.get(*name)).collect();
            let all = seen.len();
            seen.sort_by_key(std::string::ToString::to_string);
            seen.dedup();
            is_made_up || seen.len() == all
        })
        .collect();
    candidates.sort();
    let Some((rank, name)) = candidates.first() else {
        return Guess::look(None, "no field names a record: its content stands in for the key");
    };
    let value = Some(format!("${}", member(name)));
    match records.len() {
        _ if is_made_up => {
            Guess { value, why: "by its name, as described".to_owned(), is_sure: *rank < 10 }
        }
        1 => Guess {
            value,
            why: "by its name; the sample has one record".to_owned(),
            is_sure: *rank < 5,
        },
        count => Guess {
            value,
            why: format!("different in each of the {count} records of the sample"),
            is_sure: *rank <= 10,
        },
    }
}

/// What says which state of a thing a record is.
pub(super) struct Moved {
    pub name: String,
    pub expression: String,
    pub why: String,
    pub is_sure: bool,
    pub is_time: bool,
    /// As `cursor.format` has it.
    pub format: Option<&'static str>,
}

pub(super) fn revision(records: &[&Map<String, Value>]) -> Option<Moved> {
    let first = records.first()?;
    let everywhere = |name: &str, is: fn(&Value) -> bool| {
        records.iter().all(|record| record.get(name).is_some_and(is))
    };
    let path = |name: &str| member(name).trim_start_matches('.').to_owned();
    let changed =
        |name: &str| ["updat", "modif", "chang"].iter().any(|word| plain(name).contains(word));
    if let Some(name) =
        first.keys().find(|name| changed(name) && everywhere(name, |v| time(v).is_some()))
        && !name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_')
    {
        let format = first.get(name).and_then(time)?;
        return Some(Moved {
            name: path(name),
            expression: format!("${} | timestamp", member(name)),
            why: "a time that says, by its name, when the record changed".to_owned(),
            is_sure: true,
            is_time: true,
            format: format.as_cursor(),
        });
    }
    let version = |name: &str| {
        matches!(plain(name).as_str(), "version" | "revision" | "rev" | "sequence" | "lockversion")
    };
    let name = first
        .keys()
        .find(|name| version(name) && everywhere(name, |v| v.is_i64() || v.is_u64()))?;
    Some(Moved {
        name: path(name),
        expression: format!("${} | integer", member(name)),
        why: "a number that, by its name, grows with each change".to_owned(),
        is_sure: false,
        is_time: false,
        format: None,
    })
}

/// How a time is written.
#[derive(Clone, Copy, PartialEq)]
enum Time {
    Rfc3339,
    Seconds,
    Millis,
}

impl Time {
    fn as_cursor(self) -> Option<&'static str> {
        match self {
            Self::Rfc3339 => None,
            Self::Seconds => Some("epoch_s"),
            Self::Millis => Some("epoch_ms"),
        }
    }
}

fn time(value: &Value) -> Option<Time> {
    match value {
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(|_| Time::Rfc3339),
        Value::Number(number) => match number.as_u64()? {
            // The years 2001 to 2065.
            1_000_000_000..3_000_000_000 => Some(Time::Seconds),
            1_000_000_000_000..3_000_000_000_000 => Some(Time::Millis),
            _ => None,
        },
        _ => None,
    }
}

/// A line of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where it goes: names, nested.
    pub target: Vec<String>,
    /// Where it comes from, and through which filters.
    pub expression: String,
    /// What deserves a look.
    pub look: Option<String>,
}

/// A map, and the named maps that it applies.
#[derive(Clone, Debug, Default)]
pub struct MapGuess {
    /// The fields.
    pub fields: Vec<Field>,
    /// Named maps, for lists of objects.
    pub named: Maps,
}

pub(super) fn map(records: &[&Map<String, Value>]) -> MapGuess {
    let mut guess = MapGuess::default();
    guess.fields = fields(records, &[], &mut guess.named);
    guess
}

fn fields(records: &[&Map<String, Value>], at: &[String], named: &mut Maps) -> Vec<Field> {
    let mut names: Vec<&String> = Vec::new();
    for name in records.iter().flat_map(|record| record.keys()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut found = Vec::new();
    for name in names {
        let values: Vec<&Value> = records.iter().filter_map(|record| record.get(name)).collect();
        let mut target = at.to_vec();
        target.push(name.clone());
        let is_always = values.len() == records.len();
        let objects: Vec<&Map<String, Value>> =
            values.iter().filter_map(|value| value.as_object()).collect();
        let fits = objects.iter().all(|object| !object.is_empty() && object.len() <= MAX_FIELDS);
        if is_always && objects.len() == values.len() && fits && target.len() < MAX_DEPTH {
            found.extend(fields(&objects, &target, named));
        } else {
            found.push(field(name, target, &values, is_always, named));
        }
    }
    found
}

fn field(
    name: &str,
    target: Vec<String>,
    values: &[&Value],
    is_always: bool,
    named: &mut Maps,
) -> Field {
    let path: String = target.iter().map(|name| member(name)).collect();
    let present: Vec<&Value> = values.iter().copied().filter(|value| !value.is_null()).collect();
    let mut look = None;
    let all =
        |is: &dyn Fn(&Value) -> bool| !present.is_empty() && present.iter().all(|value| is(value));
    let items: Vec<&Map<String, Value>> = present
        .iter()
        .filter_map(|value| value.as_array())
        .flatten()
        .filter_map(Value::as_object)
        .collect();
    let is_list_of_objects =
        all(&|value| value.as_array().is_some_and(|items| items.iter().all(Value::is_object)))
            && !items.is_empty();
    if is_list_of_objects && is_always && present.len() == values.len() {
        let base = table_name(name.strip_suffix('s').unwrap_or(name));
        let mut map_name = base.clone();
        let mut count = 2;
        while named.contains_key(&map_name) {
            map_name = format!("{base}_{count}");
            count += 1;
        }
        // The name is taken before the lists within ask for theirs.
        named.insert(map_name.clone(), Vec::new());
        let inner = fields(&items, &[], named);
        named.insert(map_name.clone(), inner);
        return Field { target, expression: format!("${path}[*] | apply('{map_name}')"), look };
    }
    let is_digits = |value: &Value| match value {
        Value::String(text) => is_decimal(text),
        other => other.is_number(),
    };
    let is_money = is_money(name)
        && all(&is_digits)
        && present.iter().any(|value| !value.is_i64() && !value.is_u64());
    let sounds_like_time =
        ["at", "time", "date", "on", "updated", "created", "modified", "timestamp"]
            .iter()
            .any(|end| plain(name).ends_with(end));
    let is_time = all(&|value| time(value).is_some() && (value.is_string() || sounds_like_time));
    let filter = if is_money {
        " | decimal"
    } else if is_time {
        " | timestamp"
    } else {
        ""
    };
    if all(&|value| {
        value
            .as_str()
            .is_some_and(|text| text.parse::<jiff::civil::DateTime>().is_ok() && text.contains(':'))
    }) && !is_time
    {
        look = Some("a time without a zone: add `| timestamp(tz='...')`".to_owned());
    }
    // What is null passes `optional` as null, and no filter sees it.
    let may_lack = !is_always || present.len() < values.len() && !filter.is_empty();
    let optional = if may_lack { " | optional" } else { "" };
    let expression = format!("${path}{filter}{optional}");
    Field { target, expression, look }
}

/// Digits with a point among them.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.split_once('.').is_some_and(|(whole, fraction)| {
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        all_digits(whole) && all_digits(fraction)
    })
}

fn is_money(name: &str) -> bool {
    const MONEY: &[&str] = &[
        "price", "total", "amount", "cost", "tax", "fee", "balance", "discount", "subtotal",
        "paid", "refund", "shipping", "revenue", "salary", "net", "gross", "credit", "debit",
    ];
    table_name(name).split('_').any(|word| {
        MONEY.contains(&word.strip_suffix('s').unwrap_or(word)) || MONEY.contains(&word)
    })
}
