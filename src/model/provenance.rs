//! Where each field of a stream's record comes from: its path in the source, what converts it, and
//! the line that says so. Named maps are followed, so that `lines[].sku` has a source of its own.

use serde_json::Value;

use super::Model;
use crate::{
    definition::{
        collections::{Fields, Named, Pairs, Scalar, TreeDef},
        connector::ConnectorDef,
        table::{At, Loc},
    },
    map::{FilterPart, Head, Parts},
};

/// Named maps nested deeper than this are not followed.
const MAX_DEPTH: usize = 8;

/// A field of the mapped record.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapped {
    /// `customer.email`, `lines[].sku`; `*` for all that is passed through.
    pub path: String,
    /// Where its line begins.
    pub at: Loc,
    /// What it is taken from.
    pub origin: Origin,
    /// The items or the object that a named map is applied to, where `origin` counts from there.
    pub within: Option<String>,
    /// What it goes through.
    pub filters: Vec<FilterPart>,
    /// What comes out.
    pub gives: Gives,
    /// What stands in for what is missing.
    pub default: Option<Value>,
    /// It is left out where the source has nothing.
    pub is_optional: bool,
}

/// What a field is taken from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A path into the record: `$.line_items[*].sku`.
    Path(String),
    /// An expression that keeps its type: `record.id`.
    Expression(String),
    /// A text with expressions in it.
    Template(String),
    /// Always this.
    Constant(Value),
}

/// What a field's value is, as far as its line tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Gives {
    /// What the source has.
    Unknown,
    /// A text.
    Text,
    /// Decimal digits in a text, with so many places where that is said.
    Digits(Option<u64>),
    /// A time, RFC 3339 in UTC.
    Time,
    /// A calendar date.
    Date,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of these.
    OneOf(Vec<Value>),
    /// A list.
    List,
    /// An object.
    Object,
}

/// The fields of a stream's map, in the order written, the outer before the inner. `model` is what
/// the record has to satisfy: it tells lists from objects where the map does not.
pub fn provenance(body: &ConnectorDef, map: &Fields, model: Option<&Model>) -> Vec<Mapped> {
    let mut walk =
        Walk { maps: body.map.value(), lookups: body.lookup.value(), model, mapped: Vec::new() };
    walk.fields(&map.0, "", &Scope::Record, 0);
    walk.mapped
}

/// What paths count from.
enum Scope {
    /// The record.
    Record,
    /// What this path leads to, item by item where it leads to many.
    Joined(String),
    /// What this gives; a path cannot be appended to it.
    Apart(String),
}

struct Walk<'d> {
    maps: Option<&'d Named<Fields>>,
    lookups: Option<&'d Named<Pairs<Scalar>>>,
    model: Option<&'d Model>,
    mapped: Vec<Mapped>,
}

impl Walk<'_> {
    fn fields(
        &mut self,
        fields: &[(String, At<TreeDef>)],
        path: &str,
        scope: &Scope,
        depth: usize,
    ) {
        for (name, field) in fields {
            let dot = if path.is_empty() { "" } else { "." };
            self.tree(&field.value, field.key, format!("{path}{dot}{name}"), scope, depth);
        }
    }

    fn tree(&mut self, tree: &TreeDef, at: Loc, path: String, scope: &Scope, depth: usize) {
        match tree {
            TreeDef::Leaf(leaf) => self.leaf(&leaf.text, at, path, scope, depth),
            TreeDef::Constant(value) => self.mapped.push(Mapped {
                path,
                at,
                origin: Origin::Constant(value.clone()),
                within: None,
                filters: Vec::new(),
                gives: Gives::OneOf(vec![value.clone()]),
                default: None,
                is_optional: false,
            }),
            TreeDef::Table(fields) => self.fields(fields, &path, scope, depth),
            TreeDef::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.tree(&item.value, item.key, format!("{path}[{index}]"), scope, depth);
                }
            }
        }
    }

    fn leaf(&mut self, text: &str, at: Loc, path: String, scope: &Scope, depth: usize) {
        let parts = Parts::of(text);
        let is_many = matches!(parts.head, Head::Path { is_singular: false, .. });
        let (origin, within) = placed(parts.head, scope);
        let applied = self.applied(&path, &parts.filters, is_many);
        let gives = match &applied {
            Some(applied) if applied.is_list == Some(true) => Gives::List,
            Some(applied) if applied.is_list == Some(false) => Gives::Object,
            Some(_) => Gives::Unknown,
            None => self.gives(&parts.filters, &origin, is_many),
        };
        let is_default = |filter: &&FilterPart| matches!(filter.name.as_str(), "default" | "d");
        let has_default = parts.filters.iter().any(|filter| is_default(&filter));
        // What is converted after it stands in differs from what is written.
        let last = parts.filters.iter().rev().find(|filter| filter.name != "optional");
        let default = last.filter(is_default).and_then(|filter| filter.positional.first().cloned());
        let inner = applied.filter(|_| depth < MAX_DEPTH).map(|applied| {
            let is_list = applied.is_list == Some(true);
            let inside = if is_list { format!("{path}[]") } else { path.clone() };
            (
                applied.fields,
                inside,
                inner_scope(&origin, within.as_deref(), is_list && !is_many, &applied),
            )
        });
        self.mapped.push(Mapped {
            path,
            at,
            origin,
            within,
            gives,
            default,
            is_optional: !has_default
                && parts.filters.iter().any(|filter| filter.name == "optional"),
            filters: parts.filters,
        });
        if let Some((fields, inside, scope)) = inner {
            self.fields(&fields.0, &inside, &scope, depth + 1);
        }
    }
}

/// A named map that is applied.
struct Applied<'d> {
    fields: &'d Fields,
    /// To each item of a list, or to an object; `None`: only the record tells.
    is_list: Option<bool>,
    /// To what the path finds, nothing in between.
    is_direct: bool,
}

impl<'d> Walk<'d> {
    fn applied(&self, path: &str, filters: &[FilterPart], is_many: bool) -> Option<Applied<'d>> {
        let index = filters.iter().position(|filter| filter.name == "apply")?;
        let fields = &self.maps?.find(filters[index].table()?)?.value;
        let before = &filters[..index];
        let by_model = || Some(self.model?.field(path)?.is_list());
        let is_list = match before.last().map(|filter| filter.name.as_str()) {
            Some("first" | "last") => Some(false),
            Some("split" | "entries") => Some(true),
            _ if is_many => Some(true),
            _ => by_model(),
        };
        // What only stands in for something missing does not change what there is.
        let is_direct = before.iter().all(|filter| matches!(filter.name.as_str(), "default" | "d"));
        Some(Applied { fields, is_list, is_direct })
    }

    fn gives(&self, filters: &[FilterPart], origin: &Origin, is_many: bool) -> Gives {
        let begin = match origin {
            Origin::Template(_) => Gives::Text,
            Origin::Constant(value) => Gives::OneOf(vec![value.clone()]),
            Origin::Path(_) if is_many => Gives::List,
            Origin::Path(_) | Origin::Expression(_) => Gives::Unknown,
        };
        filters.iter().fold(begin, |before, filter| match filter.name.as_str() {
            "default" | "d" | "optional" | "filled" => before,
            "string" | "lower" | "upper" | "trim" | "join" | "json" | "sha256" | "base64"
            | "urlencode" | "strftime" => Gives::Text,
            "decimal" => {
                let scale = filter.positional.first().or(filter.named("scale"));
                Gives::Digits(scale.and_then(Value::as_u64))
            }
            "timestamp" => Gives::Time,
            "date" => Gives::Date,
            "integer" => Gives::Integer,
            "number" => Gives::Number,
            "boolean" => Gives::Boolean,
            "lookup" => self.listed(filter),
            "split" | "entries" => Gives::List,
            _ => Gives::Unknown,
        })
    }

    /// What a lookup may give.
    fn listed(&self, filter: &FilterPart) -> Gives {
        let table = filter.table().and_then(|name| self.lookups?.find(name));
        let Some(table) = table else { return Gives::Unknown };
        let entries = table.value.0.iter().map(|(_, value)| value.value.0.clone());
        let mut values: Vec<Value> = Vec::new();
        for value in entries.chain(filter.named("else").cloned()) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        Gives::OneOf(values)
    }
}

/// An expression's head as it reads from the record, and what it counts from where that cannot be
/// written as one path.
fn placed(head: Head, scope: &Scope) -> (Origin, Option<String>) {
    let within = match scope {
        Scope::Record => None,
        Scope::Joined(path) | Scope::Apart(path) => Some(path.clone()),
    };
    match (head, scope) {
        (Head::Text(text), _) => (Origin::Constant(Value::String(text)), None),
        (Head::Path { text, .. }, Scope::Joined(outer)) => {
            (Origin::Path(format!("{outer}{}", &text[1..])), None)
        }
        (Head::Path { text, .. }, _) => (Origin::Path(text), within),
        (Head::Expression(text), _) => (Origin::Expression(text), within),
        (Head::Template(text), _) => (Origin::Template(text), within),
    }
}

/// What the fields of a named map count from.
fn inner_scope(
    origin: &Origin,
    within: Option<&str>,
    adds_items: bool,
    applied: &Applied<'_>,
) -> Scope {
    match origin {
        Origin::Path(path)
            if applied.is_direct && applied.is_list.is_some() && within.is_none() =>
        {
            Scope::Joined(if adds_items { format!("{path}[*]") } else { path.clone() })
        }
        Origin::Path(text) | Origin::Expression(text) | Origin::Template(text) => {
            Scope::Apart(text.clone())
        }
        Origin::Constant(value) => Scope::Apart(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{definition::read_connector, diagnostic::SourceFile};

    fn told(text: &str, model: Option<&Model>) -> Vec<String> {
        let file = SourceFile { path: "a.toml".into(), text: text.to_owned() };
        let read = read_connector(0, &file);
        let stream = &read.definition.stream.value().expect("streams").0[0].1.value;
        let map = stream.map.value().expect("a map");
        let mapped = provenance(&read.definition, map, model);
        let line = |field: &Mapped| {
            let from = match &field.origin {
                Origin::Path(text) | Origin::Expression(text) | Origin::Template(text) => {
                    text.clone()
                }
                Origin::Constant(value) => value.to_string(),
            };
            let within = field.within.as_ref().map(|w| format!(" of {w}")).unwrap_or_default();
            format!("{} <- {from}{within}: {:?}", field.path, field.gives)
        };
        mapped.iter().map(line).collect()
    }

    const MAP: &str = r#"
        [stream.orders.map]
        id = "shop:{{ record.id }}"
        kind = "order"
        vat = 20
        customer.email = "$.email | lower | optional"
        status = "$.state | lookup('status', else='other')"
        total = "$.total | decimal(2) | default('0.00')"
        lines = "$.items[*] | apply('line')"
        address = "$.address | apply('place')"
        tags = ["$.a", "{{ record.b | integer }}"]
        [map.line]
        sku = "$.sku"
        label = "{{ record.sku }}!"
        parts = "$.parts[*] | apply('place')"
        [map.place]
        city = "$.city"
        [lookup.status]
        paid = "settled"
        done = "settled"
    "#;

    #[test]
    fn fields_are_followed_into_named_maps() {
        assert_eq!(
            told(MAP, None),
            [
                "id <- shop:{{ record.id }}: Text",
                r#"kind <- "order": OneOf([String("order")])"#,
                "vat <- 20: OneOf([Number(20)])",
                "customer.email <- $.email: Text",
                r#"status <- $.state: OneOf([String("settled"), String("other")])"#,
                "total <- $.total: Digits(Some(2))",
                "lines <- $.items[*]: List",
                "lines[].sku <- $.items[*].sku: Unknown",
                "lines[].label <- {{ record.sku }}! of $.items[*]: Text",
                "lines[].parts <- $.items[*].parts[*]: List",
                "lines[].parts[].city <- $.items[*].parts[*].city: Unknown",
                "address <- $.address: Unknown",
                "address.city <- $.city of $.address: Unknown",
                "tags[0] <- $.a: Unknown",
                "tags[1] <- record.b: Integer",
            ]
        );
    }

    #[test]
    fn the_model_tells_lists_from_objects() {
        let model =
            |kind: &str| Model::new("x", &json!({ "properties": { "address": { "type": kind } } }));
        let city = |kind: &str| {
            told(MAP, Some(&model(kind)))
                .into_iter()
                .find(|line| line.contains("city <- $.address"))
        };
        assert_eq!(city("array").as_deref(), Some("address[].city <- $.address[*].city: Unknown"));
        assert_eq!(city("object").as_deref(), Some("address.city <- $.address.city: Unknown"));
    }
}
