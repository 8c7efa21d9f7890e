//! `[stream.NAME.poll]` over `[source]`, key by key.

use std::{sync::Arc, time::Duration};

use http::Method;

use super::{
    super::{PageBy, PagePlan, PollPlan, RecordsPlan, RequestBody},
    auth::{self, Auths},
    connector::Whole,
    context::{Context, complete},
    cursor, decode,
    destination::{duration, method_of, rates},
    detail, each, job, on, page, sites, url,
};
use crate::{
    definition::{
        collections::{Pairs, TreeDef},
        kinds::Expression,
        page::PageDef,
        poll::{MethodDef, PollDef},
        source::SourceDef,
        stream::StreamDef,
        table::{At, Given, Loc},
    },
    diagnostic::codes,
    map::{Expr, Site},
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_MAX_RESPONSE_BYTES: u64 = 64 << 20;

/// What the expressions of a request use, for the checks that something is used at all.
#[derive(Default)]
pub(super) struct Uses(Vec<(String, Option<String>)>);

impl Uses {
    /// Whether a request names `name.member`.
    pub fn has(&self, name: &str, member: &str) -> bool {
        self.0.iter().any(|(used, used_member)| {
            used == name && used_member.as_ref().is_none_or(|used| used == member)
        })
    }

    /// What these use.
    pub fn of<'e>(exprs: impl IntoIterator<Item = &'e Expr>) -> Self {
        let mut uses = Self::default();
        uses.add(exprs);
        uses
    }

    fn add<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>) {
        self.0.extend(exprs.into_iter().flat_map(Expr::uses));
    }
}

pub(super) fn compile(
    context: &mut Context<'_>,
    whole: Whole<'_>,
    name: &str,
    stream: &StreamDef,
    auths: &Auths,
) -> Option<PollPlan> {
    let poll = stream.poll.get()?;
    let def = &poll.value;
    let empty = SourceDef::default();
    let source = whole.body.source.value().unwrap_or(&empty);
    let path = format!("stream.{name}.poll");
    let site = if def.job.is_absent() { &sites::REQUEST } else { &sites::CREATE };

    let before = context.has_errors();
    let url = url::joined(
        context,
        (def.base.or(&source.base), &def.path),
        ("poll", poll.at),
        site,
        &path,
    );
    let query_def = merge(&source.query, &def.query, str::eq);
    let headers_def = merge(&source.headers, &def.headers, str::eq_ignore_ascii_case);
    let query: Vec<(String, Expr)> = query_def
        .iter()
        .filter_map(|(key, value)| {
            Some((key.clone(), context.expr(value, site, &format!("{path}.query.{key}"))?))
        })
        .collect();
    let headers =
        auth::headers(context, headers_def.iter().copied(), site, &format!("{path}.headers"));
    let body = request_body(context, def, site, &path);

    let mut uses = Uses::default();
    let pairs = query.iter().chain(&headers).map(|(_, expr)| expr);
    uses.add(url.iter().chain(pairs));
    match &body {
        Some(RequestBody::Json(tree)) => uses.add(tree.leaves().into_iter().map(|(_, expr)| expr)),
        Some(RequestBody::Text(text)) => uses.add([text]),
        Some(RequestBody::Form(fields)) => uses.add(fields.iter().map(|(_, expr)| expr)),
        None => {}
    }
    // What is wrong with a request hides what it uses: better to say nothing than something false.
    let uses = if context.has_errors() && !before { None } else { Some(uses) };

    let each = each::compile(context, stream, uses.as_ref(), &path);
    let decode = decode::compile(context, def);
    let records = def.records.get().map(|given| records(context, given, &path));
    let job = def.job.get().map(|given| job::requests(context, (def, source), given, &path));
    // A job's pages are those of its result.
    let of_result = job.as_ref().map(|job| job.as_ref().map(job::Requests::page_uses));
    let page_uses = match &of_result {
        Some(of_result) => of_result.as_ref(),
        None => uses.as_ref(),
    };
    let page = page::compile(context, stream, def, source, page_uses, &path);
    if decode.streams() {
        page_by_head(context, (def, source), page.as_ref());
    }
    let cursor =
        def.cursor.get().map(|cursor| cursor::compile(context, cursor, uses.as_ref(), &path));
    let rules = on::compile(context, [&def.on, &source.on], &path);
    let concurrency =
        def.concurrency.or(&source.concurrency).value().map_or(1, |int| int.0 as usize);
    let max = def.max_response.or(&source.max_response).value();
    let max = max.map_or(DEFAULT_MAX_RESPONSE_BYTES, |size| size.0);
    let plan = PollPlan {
        method: def.method.value().map_or(Method::GET, |method| method_of(*method)),
        auth: auth::resolve(context, def.auth.or(&source.auth), auths),
        url: url?,
        query,
        headers,
        body,
        records: complete(records)?,
        each: each?,
        decode,
        page: page?,
        cursor: complete(cursor)?.map(Box::new),
        on: rules?,
        timeout: duration(def.timeout.or(&source.timeout), DEFAULT_TIMEOUT),
        max_response_bytes: usize::try_from(max).unwrap_or(usize::MAX),
        rate: rates(&source.rate),
        concurrency,
        detail: Vec::new(),
        job: None,
    };
    let detail = detail::compile(context, (def, source), &plan, &path)?;
    let job = match (job, def.job.get()) {
        (Some(requests), Some(given)) => {
            let job = job::compile(context, (def, source), given, requests?, &plan, &path)?;
            Some(Arc::new(job))
        }
        _ if def.job.is_absent() => None,
        _ => return None,
    };
    Some(PollPlan { detail, job, ..plan })
}

/// What is read as it comes in is never there as a whole, so nothing of its body says where to go on:
/// paging would end with the first page.
fn page_by_head(
    context: &mut Context<'_>,
    (def, source): (&PollDef, &SourceDef),
    page: Option<&PagePlan>,
) {
    let Some(page) = page else { return };
    let next = match &page.by {
        PageBy::Cursor { next, .. } | PageBy::Next { next } => Some(next),
        _ => None,
    };
    let empty = PageDef::default();
    let tables = [def.page.value().unwrap_or(&empty), source.page.value().unwrap_or(&empty)];
    let [own, shared] = tables;
    let looks = [
        ("next", next, own.next.or(&shared.next)),
        ("stop", page.stop.as_ref(), own.stop.or(&shared.stop)),
    ];
    for (name, expr, given) in looks {
        let is_of_body = |(root, member): (String, Option<String>)| {
            root == "response" && member.is_none_or(|member| member == "body")
        };
        if let (Some(expr), Some(given)) = (expr, given.get())
            && expr.uses().into_iter().any(is_of_body)
        {
            context
                .error(
                    codes::MISPLACED_KEY,
                    given.at,
                    format!("`{name}` looks into a body that is read line by line"),
                    "there is no `response.body`",
                )
                .help("page by \"link\", \"page\", \"offset\" or \"last\", or by a header of the response");
        }
    }
}

pub(super) type Entry = (String, At<Expression>);

/// The source's entries, each replaced by the stream's of the same name, then the stream's others.
pub(super) fn merge<'d>(
    source: &'d Given<Pairs<Expression>>,
    own: &'d Given<Pairs<Expression>>,
    same: fn(&str, &str) -> bool,
) -> Vec<&'d Entry> {
    let shared = source.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let own = own.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let kept = shared.iter().filter(|(name, _)| !own.iter().any(|(other, _)| same(other, name)));
    kept.chain(own).collect()
}

fn request_body(
    context: &mut Context<'_>,
    def: &PollDef,
    site: &Site,
    path: &str,
) -> Option<RequestBody> {
    context.exclude(("body", def.body.key()), ("form", def.form.key()));
    check_method(context, def.body.key().or(def.form.key()), &def.method);
    if let Some(body) = def.body.get() {
        return sent(context, body, site, &format!("{path}.body"));
    }
    let form = def.form.value()?;
    Some(RequestBody::Form(context.pairs(&form.0, site, &format!("{path}.form"))))
}

/// A body goes with a method that has one.
pub(super) fn check_method(
    context: &mut Context<'_>,
    body: Option<Loc>,
    method: &Given<MethodDef>,
) {
    if let (Some(at), None | Some(MethodDef::Get)) = (body, method.value())
        && !matches!(method, Given::Invalid(_))
    {
        context
            .error(
                codes::MISPLACED_KEY,
                at,
                "GET requests have no body",
                "method \"GET\" does not send it",
            )
            .help("add method = \"POST\"");
    }
}

/// A body as it is sent: a table is JSON, a string is the text it gives.
pub(super) fn sent(
    context: &mut Context<'_>,
    body: &At<TreeDef>,
    site: &Site,
    path: &str,
) -> Option<RequestBody> {
    if let TreeDef::Leaf(text) = &body.value {
        let text = At { value: text.clone(), at: body.at, key: body.key };
        return context.expr(&text, site, path).map(RequestBody::Text);
    }
    context.tree(body, site, path).map(RequestBody::Json)
}

pub(super) fn records(
    context: &mut Context<'_>,
    given: &At<Expression>,
    path: &str,
) -> Option<RecordsPlan> {
    let text = given.value.text.as_str();
    if !text.starts_with('$') {
        let slug = text.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
        context
            .error(
                codes::BAD_RECORDS,
                given.at,
                "`records` must be a path",
                "expected a path such as \"$.orders[*]\"",
            )
            .help(if slug.is_empty() || text.contains("{{") {
                "`$` is the answer's body; `[*]` is every item of a list".to_owned()
            } else {
                format!("write \"$.{slug}[*]\"")
            });
        return None;
    }
    let expr = context.expr(given, &sites::RESPONSE, &format!("{path}.records"))?;
    Some(RecordsPlan {
        prefix: prefix(text),
        optional: text.split('|').skip(1).any(|filter| filter.trim_start().starts_with("default")),
        levels: levels(text),
        path: expr,
    })
}

/// How many nodes enclose a record: each wildcard but the last is one, and each `.*` gives a name.
fn levels(path: &str) -> usize {
    let path = path.split('|').next().unwrap_or_default();
    if path.contains('?') || path.contains("..") {
        return 0;
    }
    let named = path.matches(".*").count();
    (path.matches("[*]").count() + named).saturating_sub(1) + named
}

/// The members that a path names before its first wildcard, index or filter.
fn prefix(path: &str) -> Vec<String> {
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    let mut members = Vec::with_capacity(1);
    loop {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after
                .find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-')
                .unwrap_or(after.len());
            if end == 0 {
                return members;
            }
            members.push(after[..end].to_owned());
            rest = &after[end..];
        } else if let Some((name, after)) = quoted(rest) {
            members.push(name.to_owned());
            rest = after;
        } else {
            return members;
        }
    }
}

/// `['name']` at the beginning: the name, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('[')?;
    let quote = inner.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (name, after) = inner[1..].split_once(quote)?;
    Some((name, after.strip_prefix(']')?))
}

#[cfg(test)]
mod tests {
    use super::{levels, prefix};

    #[test]
    fn each_wildcard_but_the_last_and_each_name_is_a_level() {
        for (path, expected) in [
            ("$", 0),
            ("$.a[*]", 0),
            ("$.a[*].b[*] | default([])", 1),
            ("$.data.*", 1),
            ("$.data.*.items[*]", 2),
            ("$.a[*].b[*].c[*]", 2),
            ("$.a[?@.x].b[*]", 0),
        ] {
            assert_eq!(levels(path), expected, "{path}");
        }
    }

    #[test]
    fn the_part_before_the_first_wildcard_must_exist() {
        assert_eq!(prefix("$.data.orders[*]"), ["data", "orders"]);
        assert_eq!(prefix("$['a b'].c[?@.x]"), ["a b", "c"]);
        assert_eq!(prefix("$[*]"), [""; 0]);
        assert_eq!(prefix("$..x"), [""; 0]);
        assert_eq!(prefix("$.data | default([])"), ["data"]);
    }
}
