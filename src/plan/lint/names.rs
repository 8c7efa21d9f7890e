//! What an expression names, read off its text: enough for lints, which look at what is valid and
//! must not cry wolf. Where the text could mean either, it says the more harmless.

use std::ops::Range;

/// A name with its members: `record.customer.id`, `$.lines[0].sku`, `request.headers['date']`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chain<'t> {
    /// The first name; `$` for a path.
    pub root: &'t str,
    /// What follows, as far as it is literal.
    pub members: Vec<Member<'t>>,
    /// Whether something follows that is not literal: `vars[record.x]`, `$..id`, `$.a[?@.b]`.
    pub is_open: bool,
    /// Its bytes in the text.
    pub range: Range<usize>,
}

/// One step of a [`Chain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member<'t> {
    /// `.name`, `['name']`.
    Name(&'t str),
    /// `[0]`, `[-1]`: a position.
    Index,
}

impl<'t> Chain<'t> {
    /// The name of the n-th member, if it is one.
    pub fn name(&self, at: usize) -> Option<&'t str> {
        match self.members.get(at) {
            Some(Member::Name(name)) => Some(name),
            _ => None,
        }
    }
}

/// A table that a filter names: `lookup('status')`, `apply('line')`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call<'t> {
    /// The filter.
    pub filter: &'t str,
    /// The name; `None` where it is not literal.
    pub table: Option<&'t str>,
}

/// All that a text names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named<'t> {
    /// In the order of the text.
    pub chains: Vec<Chain<'t>>,
    /// In the order of the text.
    pub calls: Vec<Call<'t>>,
}

/// Reads any of the three kinds of string; a plain text names nothing.
pub(super) fn names(text: &str) -> Named<'_> {
    let mut named = Named::default();
    if text.starts_with('$') {
        let mut scanner = Scanner { text, at: 1, end: text.len() };
        let path = scanner.chain("$", 0);
        named.chains.push(path);
        // What is left of an open path is not looked into; its filters are.
        while scanner.at < scanner.end && !scanner.rest().starts_with('|') {
            scanner.skip_one();
        }
        scanner.code(&mut named);
        return named;
    }
    let mut from = 0;
    while let Some((open, close)) = next_code(text, from) {
        Scanner { text, at: open, end: close }.code(&mut named);
        from = close;
    }
    named
}

/// The inside of the next `{{ }}` or `{% %}`.
fn next_code(text: &str, from: usize) -> Option<(usize, usize)> {
    let rest = text.get(from..)?;
    let open = from + ["{{", "{%"].iter().filter_map(|mark| rest.find(mark)).min()? + 2;
    let inner = &text[open..];
    let close = ["}}", "%}"].iter().filter_map(|mark| inner.find(mark)).min();
    Some((open, open + close.unwrap_or(inner.len())))
}

/// What templates are made of, and constants.
const KEYWORDS: &[&str] = &[
    "and", "else", "elif", "endfor", "endif", "endset", "false", "False", "for", "if", "in", "is",
    "none", "None", "not", "or", "set", "true", "True",
];

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    end: usize,
}

impl<'t> Scanner<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..self.end]
    }

    /// Goes past one character, or past a whole literal.
    fn skip_one(&mut self) {
        let Some(first) = self.rest().chars().next() else { return };
        self.at += first.len_utf8();
        if matches!(first, '\'' | '"') {
            self.literal(first);
        }
    }

    /// What stands between here and the closing quote, which is passed.
    fn literal(&mut self, quote: char) -> &'t str {
        let rest = self.rest();
        let length = rest.find(quote).unwrap_or(rest.len());
        self.at = (self.at + length + quote.len_utf8()).min(self.end);
        &rest[..length]
    }

    fn skip_blanks(&mut self) {
        self.at = self.end - self.rest().trim_start().len();
    }

    fn ident(&mut self) -> &'t str {
        let rest = self.rest();
        let length =
            rest.find(|c: char| c != '_' && c != '-' && !c.is_alphanumeric()).unwrap_or(rest.len());
        // A minus stands within names of paths, and between names of templates; taking `a-b` for
        // one name costs a lint nothing but the second name, which is looked at next.
        let length = rest[..length].find('-').filter(|_| !self.in_path()).unwrap_or(length);
        self.at += length;
        &rest[..length]
    }

    fn in_path(&self) -> bool {
        self.text.starts_with('$')
    }

    /// Everything from here to the end.
    fn code(&mut self, named: &mut Named<'t>) {
        while let Some(first) = self.rest().chars().next() {
            if first.is_alphabetic() || first == '_' {
                let from = self.at;
                let name = self.ident();
                self.skip_blanks();
                if matches!(name, "lookup" | "apply") && self.rest().starts_with('(') {
                    self.at += 1;
                    self.skip_blanks();
                    let quote = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"'));
                    let table = quote.map(|quote| {
                        self.at += 1;
                        self.literal(quote)
                    });
                    named.calls.push(Call { filter: name, table });
                } else {
                    let chain = self.chain(name, from);
                    named.chains.extend((!KEYWORDS.contains(&name)).then_some(chain));
                }
            } else {
                self.skip_one();
            }
        }
    }

    /// The members behind a root that was just read.
    fn chain(&mut self, root: &'t str, from: usize) -> Chain<'t> {
        let range = from..from + root.len();
        let mut chain = Chain { root, members: Vec::new(), is_open: false, range };
        loop {
            let rest = self.rest();
            if let Some(after) = rest.strip_prefix('.') {
                if !after.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                    chain.is_open = true;
                    break;
                }
                self.at += 1;
                chain.members.push(Member::Name(self.ident()));
            } else if rest.starts_with('[') {
                let Some(member) = self.bracket() else {
                    chain.is_open = true;
                    break;
                };
                chain.members.push(member);
            } else {
                break;
            }
            chain.range.end = self.at;
        }
        chain
    }

    /// `['name']` or `[0]`, which is passed; anything else is not.
    fn bracket(&mut self) -> Option<Member<'t>> {
        let rest = self.rest();
        let inner = rest[1..].trim_start();
        let quote = inner.chars().next()?;
        let (member, length) = if matches!(quote, '\'' | '"') {
            let length = inner[1..].find(quote)?;
            (Member::Name(&inner[1..=length]), length + 2)
        } else {
            let length = inner.find(|c: char| c != '-' && !c.is_ascii_digit())?;
            (Member::Index, Some(length).filter(|length| *length > 0)?)
        };
        let after = inner[length..].trim_start();
        after.strip_prefix(']')?;
        self.at = self.end - after.len() + 1;
        Some(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `root.a.0` for each chain, `~` where it is open, `filter(table)` for each call.
    fn shown(text: &str) -> String {
        let named = names(text);
        let chains = named.chains.iter().map(|chain| {
            assert!(text.get(chain.range.clone()).is_some(), "{text}");
            let members = chain.members.iter().map(|member| match member {
                Member::Name(name) => format!(".{name}"),
                Member::Index => "[]".to_owned(),
            });
            let open = if chain.is_open { "~" } else { "" };
            format!("{}{}{open}", chain.root, members.collect::<String>())
        });
        let calls = named.calls.iter().map(|c| format!("{}({})", c.filter, c.table.unwrap_or("~")));
        chains.chain(calls).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_are_read_off_each_kind_of_string() {
        for (text, expected) in [
            ("plain vars.shop", ""),
            ("$.a.b[0]['c d']", "$.a.b[].c d"),
            ("$.last-modified | lookup('x', else=vars.y)", "$.last-modified vars.y lookup(x)"),
            ("$.lines[*].id | apply(\"line\")", "$.lines~ apply(line)"),
            ("$..id", "$~"),
            ("shop:{{ vars.shop }}-{{record['id']}}", "vars.shop record.id"),
            ("{{ vars[record.x] }}", "vars~ record.x"),
            ("{{ 'vars.no' ~ vars.yes }}", "vars.yes"),
            ("{{ a.b-c.d }}", "a.b c.d"),
            ("{% if not vars.a %}vars.b{% endif %}", "vars.a"),
            ("{{ record.s | lookup(vars.table) }}", "record.s vars.table lookup(~)"),
            ("{{ vars . shop", "vars~ shop"),
            ("{{ x['", "x~"),
            ("{{ x[''] }}", "x."),
            ("$", "$"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn no_text_is_too_odd() {
        for text in
            ["{{", "{{ ä[", "$['", "$.ä.", "{{ a[\"", "$[ ]", "{{ '", "$.a | lookup(", "{%}}"]
        {
            shown(text);
        }
    }
}
