//! Every field of a stream's records: where it comes from, what converts it, what it is.

use serde_json::Value;

use super::{
    Subject,
    block::{Block, Line, Table},
    change,
};
use crate::{
    definition::stream::StreamDef,
    diagnostic::counted,
    model::{Field, Gives, Mapped, Model, Origin, provenance},
    plan::StreamPlan,
};

/// Values that are listed one by one; of more their number is said.
const MAX_LISTED: usize = 8;

/// The column that the changelog fills.
const SINCE: &str = "Since";

pub(super) fn definition<'a>(subject: &'a Subject<'_>, name: &str) -> Option<&'a StreamDef> {
    let streams = subject.written.body().stream.value()?;
    streams.find(name).map(|stream| &stream.value)
}

/// The fields of a stream's map; empty where records pass as they come.
pub(super) fn mapped(subject: &Subject<'_>, stream: &StreamPlan) -> Vec<Mapped> {
    let map = definition(subject, &stream.name).and_then(|def| def.map.value());
    let model = model_of(subject, stream);
    map.map(|map| provenance(subject.written.body(), map, model.as_ref())).unwrap_or_default()
}

pub(super) fn model_of(subject: &Subject<'_>, stream: &StreamPlan) -> Option<Model> {
    stream.schema.as_ref().and_then(|schema| subject.model(schema.name()))
}

/// What the records of a stream are.
pub(super) fn blocks(subject: &Subject<'_>, stream: &StreamPlan, level: u8) -> Vec<Block> {
    let model = model_of(subject, stream);
    let mapped = mapped(subject, stream);
    let mut blocks = vec![Block::heading(level, "Fields")];
    blocks.push(Block::Paragraph(opening(stream, model.as_ref(), !mapped.is_empty())));
    let rows: Vec<Vec<Line>> = if mapped.is_empty() {
        model.iter().flat_map(|model| &model.fields).map(|field| passed(stream, field)).collect()
    } else {
        mapped.iter().map(|field| row(subject, stream, model.as_ref(), field)).collect()
    };
    if rows.is_empty() {
        return blocks;
    }
    let table = Table {
        caption: format!("Fields of {}", stream.name),
        head: vec!["Field", "From", "Conversion", "Value", "Meaning", SINCE, "Line"],
        rows,
        is_searched: true,
    };
    let table = table.without_empty_columns();
    if table.head.contains(&SINCE) {
        blocks.push(Block::paragraph(
            "What has no version under “Since” is not named in the changelog: it was there before, as \
             far as that tells.",
        ));
    }
    blocks.push(Block::Table(table));
    blocks.extend(lookups(subject, &mapped));
    blocks.extend(model.and_then(|model| not_provided(&model, &mapped)).map(Block::Paragraph));
    blocks
}

fn opening(stream: &StreamPlan, model: Option<&Model>, is_mapped: bool) -> Line {
    let line = if is_mapped {
        Line::from("Source fields are counted from the record (").code("$").text(").")
    } else {
        Line::from("Records are delivered as they come, byte for byte.")
    };
    let line = match model {
        Some(model) => {
            let line = line.text(" Each record satisfies ").code(model.name.as_str()).text(".");
            match &model.description {
                Some(description) => line.text(format!(" {description}")),
                None => line,
            }
        }
        None => line,
    };
    if stream.redact.is_empty() {
        line
    } else {
        line.text(" Personal and masked fields are not shown in logs and views.")
    }
}

fn row(
    subject: &Subject<'_>,
    stream: &StreamPlan,
    model: Option<&Model>,
    field: &Mapped,
) -> Vec<Line> {
    let known = model.and_then(|model| model.field(&field.path));
    vec![
        name(stream, &field.path, known),
        from(field),
        conversion(field),
        value(field, known),
        known
            .and_then(|known| known.description.as_deref())
            .map(|text| Line::new().prose(text))
            .unwrap_or_default(),
        change::since(subject, &stream.name, &field.path).into(),
        Line::from(subject.place(field.at)),
    ]
}

/// A field of the model where records pass as they come.
fn passed(stream: &StreamPlan, field: &Field) -> Vec<Line> {
    let source = format!("$.{}", field.path.replace("[]", "[*]"));
    vec![
        name(stream, &field.path, Some(field)),
        Line::new().code(source),
        Line::new(),
        model_value(field),
        field.description.as_deref().map(|text| Line::new().prose(text)).unwrap_or_default(),
        Line::new(),
        Line::new(),
    ]
}

fn name(stream: &StreamPlan, path: &str, known: Option<&Field>) -> Line {
    if path == "*" {
        return Line::from("all other fields");
    }
    let line = Line::new().code(path);
    let plain = path.replace("[]", "");
    let is_masked = stream.redact.iter().any(|redacted| {
        plain
            .strip_prefix(redacted.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    let line = match known {
        Some(known) if known.is_pii => line.text(" ").mark("personal"),
        _ if is_masked => line.text(" ").mark("masked"),
        _ => line,
    };
    match known {
        Some(known) if known.is_deprecated => line.text(" ").mark("deprecated"),
        _ => line,
    }
}

fn from(field: &Mapped) -> Line {
    let line = match &field.origin {
        Origin::Path(text) | Origin::Expression(text) | Origin::Template(text) => {
            Line::new().code(text.as_str())
        }
        Origin::Constant(value) => Line::from("always ").then(constant(value)),
    };
    match &field.within {
        Some(within) => line.text(" of ").code(within.as_str()),
        None => line,
    }
}

pub(super) fn constant(value: &Value) -> Line {
    match value {
        Value::String(text) => Line::new().code(text.as_str()),
        other => Line::new().code(other.to_string()),
    }
}

fn conversion(field: &Mapped) -> Line {
    let mut line = Line::new();
    for (at, filter) in field.filters.iter().enumerate() {
        if at > 0 {
            line = line.text(" → ");
        }
        line = line.code(filter.text.as_str());
    }
    line
}

/// What comes out: kind, precision, unit, and whether it may be missing.
fn value(field: &Mapped, known: Option<&Field>) -> Line {
    let kind = match &field.gives {
        Gives::Unknown | Gives::Text => match known.map(model_value) {
            Some(line) if !line.is_empty() => return missing(line, field),
            _ if field.gives == Gives::Text => Line::from("text"),
            _ => Line::from("as the source has it"),
        },
        Gives::Digits(places) => {
            let exact = match (places, known.and_then(|known| known.precision.clone())) {
                (Some(places), _) => {
                    format!("decimal, {}", counted(*places, "place"))
                }
                (None, Some(precision)) => precision,
                (None, None) => "exact decimal".to_owned(),
            };
            Line::from(exact)
        }
        Gives::Time => Line::from("RFC 3339 time, UTC"),
        Gives::Date => Line::from("date"),
        Gives::Integer => Line::from("whole number"),
        Gives::Number => Line::from("number"),
        Gives::Boolean => Line::from("true or false"),
        Gives::OneOf(values) => one_of(values),
        Gives::List => Line::from("list"),
        Gives::Object => Line::from("object"),
    };
    let line = match known.and_then(|known| known.unit.clone()) {
        Some(unit) => kind.text(format!(", in {unit}")),
        None => kind,
    };
    missing(line, field)
}

fn missing(line: Line, field: &Mapped) -> Line {
    match &field.default {
        Some(default) => line.text(", else ").then(constant(default)),
        None if field.is_optional => line.text(", may be missing"),
        None => line,
    }
}

/// What a model says of a value.
pub(super) fn model_value(field: &Field) -> Line {
    if !field.one_of.is_empty() {
        return one_of(&field.one_of);
    }
    let measure = field.measure();
    if !measure.is_empty() {
        return Line::from(measure);
    }
    let names = field.types.iter().map(|name| match name.as_str() {
        "string" => "text".to_owned(),
        "array" => "list".to_owned(),
        "integer" => "whole number".to_owned(),
        "boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    });
    Line::from(names.collect::<Vec<_>>().join(" or "))
}

fn one_of(values: &[Value]) -> Line {
    if values.len() > MAX_LISTED {
        return Line::from(format!("one of {} values", values.len()));
    }
    values.iter().enumerate().fold(Line::new(), |line, (at, value)| {
        let line = if at > 0 { line.text(", ") } else { line };
        line.then(constant(value))
    })
}

/// The tables that the map looks up in.
fn lookups(subject: &Subject<'_>, mapped: &[Mapped]) -> Vec<Block> {
    let mut names: Vec<&str> = Vec::new();
    let looked_up = mapped.iter().flat_map(|field| &field.filters).filter(|f| f.name == "lookup");
    for name in looked_up.filter_map(|filter| filter.table()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let tables = subject.written.body().lookup.value();
    let table = |name: &str| {
        let entries = &tables?.find(name)?.value.0;
        let rows = entries
            .iter()
            .map(|(from, to)| vec![Line::new().code(from.as_str()), constant(&to.value.0)])
            .collect();
        Some(Block::Table(Table {
            caption: format!("What lookup('{name}') makes of a value"),
            head: vec!["Source value", "Becomes"],
            rows,
            is_searched: false,
        }))
    };
    let mut blocks = Vec::new();
    for name in names {
        blocks.extend(table(name).map(|table| {
            vec![Block::Paragraph(Line::new().code(format!("lookup('{name}')"))), table]
        }));
    }
    blocks.into_iter().flatten().collect()
}

/// What the model has and the map does not make.
fn not_provided(model: &Model, mapped: &[Mapped]) -> Option<Line> {
    if mapped.is_empty() || mapped.iter().any(|field| field.path == "*") {
        return None;
    }
    let is_made = |path: &str| {
        mapped.iter().any(|field| {
            let has = field.path.as_str();
            // Of what passes whole, the inner fields pass, too.
            has == path
                || has.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '[']))
                || path.strip_prefix(has).is_some_and(|rest| rest.starts_with(['.', '[']))
                    && !mapped
                        .iter()
                        .any(|other| other.path.len() > has.len() && other.path.starts_with(has))
        })
    };
    let absent: Vec<&str> = model
        .fields
        .iter()
        .map(|field| field.path.as_str())
        .filter(|path| !is_made(path))
        .collect();
    if absent.is_empty() {
        return None;
    }
    let name = model.name.as_str();
    Some(Line::from("Not provided, though ").code(name).text(" has it: ").codes(absent).text("."))
}
