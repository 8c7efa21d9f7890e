//! What the text of an expression is made of, for documents and comparisons: nothing is compiled, and
//! a text that does not parse is one part.

use minijinja::machinery::{ast, parse_expr};
use serde_json::Value;

use super::{
    check::constant_arguments,
    lex::{self, Piece},
    path::Path,
};

/// An expression, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// What the filters are applied to.
    pub head: Head,
    /// The filters, in the order in which they are applied.
    pub filters: Vec<FilterPart>,
}

/// What filters are applied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// `$.a.b`, as written.
    Path {
        /// Its text.
        text: String,
        /// Whether it gives the value, not an array of what it finds.
        is_singular: bool,
    },
    /// What stands in a lone `{{ }}`, without filters: it keeps its JSON type.
    Expression(String),
    /// A text with expressions or statements in it: gives a text.
    Template(String),
    /// A text that is itself.
    Text(String),
}

/// A filter with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterPart {
    /// As it was written: `decimal(2)`.
    pub text: String,
    /// Its name.
    pub name: String,
    /// Constant arguments by place. Empty where one is no constant.
    pub positional: Vec<Value>,
    /// Constant arguments by name. Empty where one is no constant.
    pub named: Vec<(String, Value)>,
}

impl FilterPart {
    /// The first argument, where it is a text: the table of `lookup`, the map of `apply`.
    pub fn table(&self) -> Option<&str> {
        self.positional.first().and_then(Value::as_str)
    }

    /// The argument of that name.
    pub fn named(&self, name: &str) -> Option<&Value> {
        self.named.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

impl Parts {
    /// Takes the text of an expression apart.
    pub fn of(text: &str) -> Self {
        if text.starts_with('$') {
            let end = lex::filters_of_path(text).unwrap_or(text.len());
            let path = text[..end].trim_end();
            let is_singular = Path::parse(path).map_or(true, |path| path.is_singular());
            let filters = filters_of(&text[end..]).unwrap_or_default();
            return Self { head: Head::Path { text: path.to_owned(), is_singular }, filters };
        }
        if !text.contains("{{") && !text.contains("{%") {
            return Self { head: Head::Text(text.to_owned()), filters: Vec::new() };
        }
        match lex::pieces(text).ok().flatten().as_deref() {
            Some([Piece::Expression(range)]) => Self::of_expression(text[range.clone()].trim()),
            _ => Self { head: Head::Template(text.to_owned()), filters: Vec::new() },
        }
    }

    /// `record.a | decimal(2)`. Filters are taken off where all of the text is what they apply to.
    fn of_expression(text: &str) -> Self {
        let whole = || Self { head: Head::Expression(text.to_owned()), filters: Vec::new() };
        let Some(first) = lex::filters(text).ok().and_then(|found| found.first().cloned()) else {
            return whole();
        };
        let bar = first.start - 1;
        let filters = filters_of(&text[bar..]);
        let applied = parse_expr(text).map(|tree| depth_of(&tree)).unwrap_or_default();
        match filters {
            Some(filters) if filters.len() == applied => {
                Self { head: Head::Expression(text[..bar].trim_end().to_owned()), filters }
            }
            _ => whole(),
        }
    }

    /// The names of its filters.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.filters.iter().map(|filter| filter.name.as_str())
    }
}

/// How many filters are applied to all of an expression, one after the other.
fn depth_of(tree: &ast::Expr<'_>) -> usize {
    let mut depth = 0;
    let mut at = tree;
    while let ast::Expr::Filter(node) = at {
        depth += 1;
        let Some(input) = &node.expr else { break };
        at = input;
    }
    depth
}

/// The filters of a text that begins with a bar.
fn filters_of(text: &str) -> Option<Vec<FilterPart>> {
    let ranges = lex::filters(text).ok()?;
    ranges.into_iter().map(|range| filter_of(text[range].trim())).collect()
}

fn filter_of(text: &str) -> Option<FilterPart> {
    let applied = format!("x|{text}");
    let tree = parse_expr(&applied).ok()?;
    let ast::Expr::Filter(node) = &tree else { return None };
    let arguments = constant_arguments(&node.args).unwrap_or_default();
    Some(FilterPart {
        text: text.to_owned(),
        name: node.name.to_owned(),
        positional: arguments.positional,
        named: arguments.named,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let parts = Parts::of(text);
        let filters: Vec<&str> = parts.filters.iter().map(|filter| filter.text.as_str()).collect();
        let head = match parts.head {
            Head::Path { text, is_singular: true } => format!("one {text}"),
            Head::Path { text, is_singular: false } => format!("many {text}"),
            Head::Expression(text) => format!("expression {text}"),
            Head::Template(text) => format!("template {text}"),
            Head::Text(text) => format!("text {text}"),
        };
        [vec![head.as_str()], filters].concat().join(" > ")
    }

    #[test]
    fn expressions_are_taken_apart() {
        for (text, expected) in [
            ("$.a | decimal(2) | default('|')", "one $.a > decimal(2) > default('|')"),
            ("$.a[?@.b == 'x|y'] | apply('line')", "many $.a[?@.b == 'x|y'] > apply('line')"),
            ("{{ record.a | lower }}", "expression record.a > lower"),
            ("{{ 'a|b' }}", "expression 'a|b'"),
            ("{{ record.a ~ record.b | upper }}", "expression record.a ~ record.b | upper"),
            ("shop:{{ record.id }}", "template shop:{{ record.id }}"),
            ("{% if record.a %}x{% endif %}", "template {% if record.a %}x{% endif %}"),
            ("478", "text 478"),
            ("$.a |", "one $.a"),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn arguments_are_values() {
        let parts = Parts::of("$.state | lookup('status', else='open')");
        assert_eq!(parts.filters[0].table(), Some("status"));
        assert_eq!(parts.filters[0].named("else"), Some(&Value::from("open")));
        assert_eq!(parts.names().collect::<Vec<_>>(), ["lookup"]);
    }
}
