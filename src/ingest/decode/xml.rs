//! XML as JSON: an element is its text, or an object of its attributes (`@name`), its children by
//! name, a list where a name comes again, and its text (`#text`) where it has both.
//!
//! Names stay as they are written, prefixes included. No entity is expanded but the five of XML and
//! those that name a character, so no document is larger than what came.

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use serde_json::{Map, Value};

use super::{DecodeError, bad};

/// Elements within each other.
const MAX_DEPTH: usize = 100;

/// An element that is still open.
#[derive(Default)]
struct Open {
    name: String,
    members: Map<String, Value>,
    text: String,
}

/// The document as `{"root": ...}`.
pub fn to_json(bytes: &[u8]) -> Result<Value, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        bad(format!("the XML is not UTF-8 from byte {} on", error.valid_up_to()))
    })?;
    let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut open = vec![Open::default()];
    loop {
        let at = reader.buffer_position();
        let wrong = |what: &str| bad(format!("the response is not XML: byte {at}: {what}"));
        match reader.read_event().map_err(|error| wrong(&error.to_string()))? {
            Event::Start(start) => {
                if open.len() > MAX_DEPTH {
                    return Err(wrong(&format!("elements nest deeper than {MAX_DEPTH}")));
                }
                open.push(begun(&start).map_err(|what| wrong(&what))?);
            }
            Event::Empty(start) => {
                let element = begun(&start).map_err(|what| wrong(&what))?;
                close(element, &mut open);
            }
            Event::End(_) => {
                if let Some(element) = open.pop() {
                    close(element, &mut open);
                }
            }
            Event::Text(text) => add(&mut open, &text.xml10_content()),
            Event::CData(text) => add(&mut open, &text.xml10_content()),
            Event::GeneralRef(name) => {
                let name = name.xml10_content();
                let meant =
                    meaning(&name).ok_or_else(|| wrong(&format!("unknown entity `&{name};`")))?;
                add(&mut open, &meant);
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    match (open.pop(), open.is_empty()) {
        (Some(root), true) if !root.members.is_empty() => Ok(Value::Object(root.members)),
        (_, true) => Err(bad("the response is not XML: there is no element in it")),
        _ => Err(bad("the response is not XML: it ends within an element")),
    }
}

fn begun(start: &BytesStart<'_>) -> Result<Open, String> {
    let mut members = Map::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let name = format!("@{}", attribute.key.as_ref());
        let value =
            quick_xml::escape::unescape(&attribute.value).map_err(|error| error.to_string())?;
        members.insert(name, Value::from(value.into_owned()));
    }
    let name = start.name().as_ref().to_owned();
    Ok(Open { name, members, text: String::new() })
}

fn add(open: &mut [Open], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// What a reference stands for.
fn meaning(name: &str) -> Option<String> {
    let character = match name.strip_prefix('#') {
        Some(number) => {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
        None => match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => return None,
        },
    };
    Some(character.to_string())
}

fn close(element: Open, open: &mut [Open]) {
    let Open { name, mut members, text } = element;
    let text = text.trim();
    let value = if members.is_empty() {
        Value::from(text)
    } else {
        if !text.is_empty() {
            members.insert("#text".to_owned(), Value::from(text));
        }
        Value::Object(members)
    };
    let Some(parent) = open.last_mut() else { return };
    match parent.members.get_mut(&name) {
        None => drop(parent.members.insert(name, value)),
        Some(Value::Array(list)) => list.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}
