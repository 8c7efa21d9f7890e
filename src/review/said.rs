//! What an expression says, so that two of them can be compared: blanks and quotes do not count,
//! variables count by their values, and what was only renamed counts as the same.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::map::outline::{Chained, Outline, Part};

/// What things were called on the old side, and are on the new: old name → new name.
#[derive(Debug, Default)]
pub(super) struct Renames {
    pub maps: BTreeMap<String, String>,
    pub lookups: BTreeMap<String, String>,
    pub vars: BTreeMap<String, String>,
    /// By the names that are looked up.
    pub secrets: BTreeMap<String, String>,
    pub auths: BTreeMap<String, String>,
    pub destinations: BTreeMap<String, String>,
}

impl Renames {
    /// What credentials of the old side are called on the new.
    pub fn auth<'n>(&'n self, name: Option<&'n str>) -> Option<&'n str> {
        name.map(|name| self.auths.get(name).map_or(name, String::as_str))
    }
}

/// What one side's expressions refer to.
pub(super) struct Names<'a> {
    /// The variables' values, an object.
    pub vars: &'a Value,
    /// `[secrets]`: the name in the file → the name that is looked up.
    pub secrets: &'a BTreeMap<String, String>,
    /// `None` on the new side.
    pub renames: Option<&'a Renames>,
}

/// What an expression says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Its parts, variables replaced by their values, names as the new side has them.
    pub outline: Outline,
    /// The same as a text, for people: as it was written, but for variables.
    pub text: String,
    /// The variables whose values stand in it, by the names of its own side.
    pub vars: Vec<String>,
}

impl Said {
    /// Whether both say the same, whatever they were written like.
    pub fn same(&self, other: &Self) -> bool {
        self.outline == other.outline
    }
}

impl Names<'_> {
    /// What a text of this side says.
    pub fn said(&self, source: &str) -> Said {
        let mut vars = Vec::new();
        let outline = match Outline::of(source) {
            Outline::Value(value) => match self.var_of(&value) {
                Some((name, text)) => {
                    vars.push(name);
                    text
                }
                None => Outline::Value(self.chained(value, &mut vars)),
            },
            Outline::Mixed(parts) => self.mixed(parts, &mut vars),
            Outline::Program(text) => Outline::Program(self.replaced(&text, &mut vars)),
            text @ Outline::Text(_) => text,
        };
        let text = if vars.is_empty() { source.to_owned() } else { written(&outline, source) };
        Said { outline, text, vars }
    }

    fn mixed(&self, parts: Vec<Part>, vars: &mut Vec<String>) -> Outline {
        let mut joined: Vec<Part> = Vec::with_capacity(parts.len());
        for part in parts {
            let part = match part {
                Part::Value(value) => match self.var_of(&value) {
                    Some((name, Outline::Text(text))) => {
                        vars.push(name);
                        Part::Text(text)
                    }
                    _ => Part::Value(self.chained(value, vars)),
                },
                text @ Part::Text(_) => text,
            };
            match (joined.last_mut(), part) {
                (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
                (_, part) => joined.push(part),
            }
        }
        match joined.as_slice() {
            [Part::Text(only)] => Outline::Text(only.clone()),
            _ => Outline::Mixed(joined),
        }
    }

    /// The value of `{{ vars.NAME }}`, where that is all and it has one.
    fn var_of(&self, value: &Chained) -> Option<(String, Outline)> {
        let name = value.origin.strip_prefix("vars.").filter(|_| value.filters.is_empty())?;
        let text = match self.vars.get(name)? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some((name.to_owned(), Outline::Text(text)))
    }

    fn chained(&self, mut value: Chained, vars: &mut Vec<String>) -> Chained {
        // `$` and `record` are the same document wherever both may stand.
        if let Some(rest) = value.origin.strip_prefix("record.").filter(|rest| is_dotted(rest)) {
            value.origin = format!("$.{rest}");
        }
        value.origin = self.replaced(&value.origin, vars);
        for call in &mut value.filters {
            let table = match call.name.as_str() {
                "apply" => self.renames.map(|renames| &renames.maps),
                "lookup" => self.renames.map(|renames| &renames.lookups),
                _ => None,
            };
            let renamed = table.zip(call.text()).and_then(|(table, name)| table.get(name));
            if let (Some(new), Some(old)) = (renamed, call.text().map(str::to_owned)) {
                call.arguments =
                    call.arguments.replacen(&format!("'{old}'"), &format!("'{new}'"), 1);
            }
            call.arguments = self.replaced(&call.arguments, vars);
        }
        value
    }

    /// With `secret.NAME` as it is looked up and renamed, and `vars.NAME` by its value.
    fn replaced(&self, text: &str, vars: &mut Vec<String>) -> String {
        let text = replace_members(text, "secret", |name| {
            let looked_up = self.secrets.get(name).map_or(name, String::as_str);
            let renamed = self.renames.and_then(|renames| renames.secrets.get(looked_up));
            Some(format!("secret.{}", renamed.map_or(looked_up, String::as_str)))
        });
        replace_members(&text, "vars", |name| {
            if let Some(value) = self.vars.get(name) {
                vars.push(name.to_owned());
                return Some(value.to_string());
            }
            let renamed = self.renames.and_then(|renames| renames.vars.get(name))?;
            Some(format!("vars.{renamed}"))
        })
    }
}

fn is_dotted(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
}

/// Replaces `root.NAME` wherever it stands as a word.
fn replace_members(text: &str, root: &str, with: impl FnMut(&str) -> Option<String>) -> String {
    let mut with = with;
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let begin = format!("{root}.");
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(&begin) {
        let (before, found) = rest.split_at(at);
        let name = &found[begin.len()..];
        let end = name.find(|c| !is_word(c)).unwrap_or(name.len());
        let starts = !out.ends_with(is_word) || !before.is_empty();
        let starts = starts && !before.ends_with(|c| is_word(c) || c == '.');
        out.push_str(before);
        let replaced = if starts { with(&name[..end]) } else { None };
        match replaced {
            Some(text) => out.push_str(&text),
            None => out.push_str(&found[..begin.len() + end]),
        }
        rest = &name[end..];
    }
    out.push_str(rest);
    out
}

/// An outline as somebody would write it; `source` where it is a program.
fn written(outline: &Outline, source: &str) -> String {
    match outline {
        Outline::Text(text) => text.clone(),
        Outline::Value(value) if value.origin.starts_with('$') => chain(value),
        Outline::Value(value) => format!("{{{{ {} }}}}", chain(value)),
        Outline::Mixed(parts) => parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Value(value) if value.origin.starts_with("$.") => {
                    let filters = Chained { origin: String::new(), filters: value.filters.clone() };
                    format!("{{{{ record.{}{} }}}}", &value.origin[2..], chain(&filters))
                }
                Part::Value(value) => format!("{{{{ {} }}}}", chain(value)),
            })
            .collect(),
        Outline::Program(_) => source.to_owned(),
    }
}

fn chain(value: &Chained) -> String {
    let filters = value.filters.iter().map(|filter| format!(" | {}", filter.written()));
    value.origin.clone() + &filters.collect::<String>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(source: &str, renames: Option<&Renames>) -> Said {
        let vars = json!({ "shop": "acme", "n": 3 });
        let secrets = BTreeMap::from([("A".to_owned(), "LOOKED_UP".to_owned())]);
        Names { vars: &vars, secrets: &secrets, renames }.said(source)
    }

    #[test]
    fn form_does_not_count_and_values_do() {
        for (one, other) in [
            ("$.a|decimal(2)", "$.a | decimal( 2 )"),
            ("{{record.id}}", "$.id"),
            ("x:{{ record.id }}", "x:{{record.id}}"),
            ("https://{{ vars.shop }}.example/", "https://acme.example/"),
            ("{{ vars.shop }}", "acme"),
            ("{{ secret.A }}", "{{ secret.LOOKED_UP }}"),
        ] {
            assert!(said(one, None).same(&said(other, None)), "{one} {other}");
        }
        let url = said("https://{{ vars.shop }}.example/{{ page.token }}", None);
        assert_eq!(url.text, "https://acme.example/{{ page.token }}");
        assert_eq!(url.vars, ["shop"]);
        assert_eq!(said("{{ record.n * vars.n }}", None).text, "{{ record.n*3 }}");
        assert_eq!(said("{{ record.a|x }}", None).text, "{{ record.a|x }}");
        assert_eq!(said("{{ my_vars.n }}", None).text, "{{ my_vars.n }}");
        assert_eq!(said("{{ vars.none }}", None).text, "{{ vars.none }}");
    }

    #[test]
    fn what_was_renamed_is_the_same() {
        let pair = |old: &str, new: &str| BTreeMap::from([(old.to_owned(), new.to_owned())]);
        let renames = Renames {
            maps: pair("line", "item"),
            lookups: pair("status", "state"),
            secrets: pair("LOOKED_UP", "NEW"),
            ..Renames::default()
        };
        for (old, new) in [
            ("$.a[*] | apply('line')", "$.a[*] | apply(\"item\")"),
            ("$.s | lookup('status', else='x')", "$.s | lookup('state', else='x')"),
            ("Token {{ secret.A }}", "Token {{ secret.NEW }}"),
        ] {
            assert!(said(old, Some(&renames)).same(&said(new, None)), "{old} {new}");
        }
    }
}
