//! `page`: the stream's own keys over the source's.

use super::{
    super::{PageBy, PagePlan},
    context::Context,
    poll::Uses,
    sites,
};
use crate::{
    definition::{
        collections::items,
        cursor::SortedDef,
        page::{PageDef, PageKind},
        poll::PollDef,
        source::SourceDef,
        stream::StreamDef,
        table::{Given, Loc, list_of},
    },
    diagnostic::codes,
    map::Expr,
};

const FIRST_PAGE: i64 = 1;

/// The keys that a way of paging needs, and those it may have besides.
fn keys_of(kind: PageKind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        PageKind::None => (&[], &["size", "size_param"]),
        PageKind::Page => (&[], &["param", "first", "size", "size_param", "stop", "max"]),
        PageKind::Offset => (&[], &["param", "size", "size_param", "stop", "max"]),
        PageKind::Cursor => (&["next"], &["param", "size", "size_param", "stop", "max"]),
        PageKind::Next => (&["next"], &["size", "size_param", "stop", "max"]),
        PageKind::Link => (&[], &["size", "size_param", "stop", "max"]),
        PageKind::Last => (&[], &["next", "param", "size", "size_param", "stop", "max"]),
    }
}

pub(super) fn compile(
    context: &mut Context<'_>,
    stream: &StreamDef,
    poll: &PollDef,
    source: &SourceDef,
    uses: Option<&Uses>,
    path: &str,
) -> Option<PagePlan> {
    let empty = PageDef::default();
    let own = poll.page.value().unwrap_or(&empty);
    let shared = source.page.value().unwrap_or(&empty);
    // Of another way of paging only the size says anything about this one.
    let differs = own.by.value().is_some_and(|by| shared.by.value() != Some(by));
    let sized;
    let shared = if differs {
        let PageDef { at, size, size_param, .. } = shared;
        let (size, size_param) = (size.clone(), size_param.clone());
        sized = PageDef { at: *at, size, size_param, ..PageDef::default() };
        &sized
    } else {
        shared
    };
    if matches!(poll.page.or(&source.page), Given::Invalid(_)) {
        return None;
    }
    let at = if own.at.end > 0 { own.at } else { shared.at };
    let by = own.by.or(&shared.by);
    let kind = by.value().copied().or(by.is_absent().then_some(PageKind::None))?;
    let mut given = own.given();
    for (name, place) in shared.given() {
        if !given.iter().any(|(own, _)| *own == name) {
            given.push((name, place));
        }
    }
    if !check_keys(context, kind, by.is_absent(), &given, at) {
        return None;
    }
    let param = own.param.or(&shared.param).value().map(|param| param.0.clone());
    let next = match (kind, own.next.or(&shared.next)) {
        (PageKind::Last, Given::Absent) => own_key(context, stream, by.key().unwrap_or(at), path),
        (PageKind::Last, next) => context.maybe(next, &sites::RECORD, &format!("{path}.page.next")),
        (_, next) => context.maybe(next, &sites::RESPONSE, &format!("{path}.page.next")),
    };
    let max = own.max.or(&shared.max);
    if let Some(max) = max.get() {
        check_max(context, max.key, poll, uses);
    }
    let stop = context.maybe(own.stop.or(&shared.stop), &sites::STOP, &format!("{path}.page.stop"));
    let first = own.first.or(&shared.first).value().map_or(FIRST_PAGE, |first| first.0);
    if matches!(kind, PageKind::Cursor | PageKind::Last) && param.is_none() {
        check_token(context, uses, by.key().unwrap_or(at));
    }
    if matches!(kind, PageKind::Page | PageKind::Offset) && param.is_none() {
        check_count(context, uses, kind, at)?;
    }
    Some(PagePlan {
        by: page_by(kind, param, first, next)?,
        size: own.size.or(&shared.size).value().and_then(|size| u64::try_from(size.0).ok()),
        size_param: own.size_param.or(&shared.size_param).value().map(|param| param.0.clone()),
        stop,
        max: max.value().and_then(|max| u64::try_from(max.0).ok()),
    })
}

/// The stream's `key` where it is one expression: the last record's key is then that.
fn own_key(context: &mut Context<'_>, stream: &StreamDef, at: Loc, path: &str) -> Option<Expr> {
    if let [key] = items(&stream.key) {
        return context.expr(key, &sites::RECORD, &format!("{path}.page.next"));
    }
    context
        .error(
            codes::PAGE_KEYS,
            at,
            "missing key `next` in `page`",
            "which value of the last record is sent?",
        )
        .help("`next` is the path within the last record, such as \"$.id\"");
    None
}

/// Where the API ends early, the next window begins where this one ended: that takes an order, and
/// a request that says where to begin.
fn check_max(context: &mut Context<'_>, at: Loc, poll: &PollDef, uses: Option<&Uses>) {
    let cursor = poll.cursor.value();
    let sorted = cursor.and_then(|cursor| cursor.sorted.value());
    let (Some(cursor), Some(sorted)) = (cursor, sorted) else {
        context
            .error(
                codes::PAGE_KEYS,
                at,
                "`max` needs a cursor in order",
                "where would the next window begin?",
            )
            .help("say under `cursor` in which order the API answers: sorted = \"asc\"");
        return;
    };
    let (param, name, end) = match sorted {
        SortedDef::Asc => (&cursor.start_param, "start", "begins after what was read"),
        SortedDef::Desc => (&cursor.end_param, "end", "ends before what was read"),
    };
    if param.is_absent() && uses.is_some_and(|uses| !uses.has("window", name)) {
        context
            .error(
                codes::PAGE_KEYS,
                at,
                format!("`max` needs `{name}_param`"),
                format!("the next window {end}, but no request says so"),
            )
            .help(format!("add {name}_param, or place {{{{ window.{name} }}}} in the request"));
    }
}

fn page_by(
    kind: PageKind,
    param: Option<String>,
    first: i64,
    next: Option<Expr>,
) -> Option<PageBy> {
    Some(match kind {
        PageKind::None => PageBy::None,
        PageKind::Page => PageBy::Page { param, first },
        PageKind::Offset => PageBy::Offset { param },
        PageKind::Cursor => PageBy::Cursor { next: next?, param },
        PageKind::Next => PageBy::Next { next: next? },
        PageKind::Link => PageBy::Link,
        PageKind::Last => PageBy::Last { next: next?, param },
    })
}

fn check_keys(
    context: &mut Context<'_>,
    kind: PageKind,
    by_is_absent: bool,
    given: &[(&'static str, Loc)],
    at: Loc,
) -> bool {
    if by_is_absent && !given.is_empty() {
        context
            .error(
                codes::PAGE_KEYS,
                at,
                "missing key `by` in `page`",
                "by what is a page asked for?",
            )
            .help("`by` is one of \"page\", \"offset\", \"cursor\", \"next\", \"link\", \"last\", \"none\"");
        return false;
    }
    let (required, optional) = keys_of(kind);
    let missing: Vec<&str> = required
        .iter()
        .filter(|key| !given.iter().any(|(name, _)| name == *key))
        .copied()
        .collect();
    for key in &missing {
        context
            .error(
                codes::PAGE_KEYS,
                at,
                format!("missing key `{key}` in `page`"),
                format!("by = \"{}\" needs `{key}`", kind.word()),
            )
            .help("`next` is the path to the next page's token or URL, such as \"$.meta.next\"");
    }
    for (name, place) in given {
        if *name != "by" && !required.contains(name) && !optional.contains(name) {
            let all = required.iter().chain(optional).copied();
            context
                .error(
                    codes::MISPLACED_KEY,
                    *place,
                    format!("`{name}` has no effect here"),
                    format!("by = \"{}\" does not use it", kind.word()),
                )
                .help(format!("\"{}\" takes {}", kind.word(), list_of(all)));
        }
    }
    if given.iter().any(|(name, _)| *name == "size_param")
        && !given.iter().any(|(name, _)| *name == "size")
    {
        context
            .error(
                codes::PAGE_KEYS,
                at,
                "missing key `size` in `page`",
                "`size_param` needs `size`",
            )
            .help(
                "`size` is the number of records a page, `size_param` the parameter that takes it",
            );
    }
    missing.is_empty()
}

/// A count that no request carries makes every page the first.
fn check_count(
    context: &mut Context<'_>,
    uses: Option<&Uses>,
    kind: PageKind,
    at: Loc,
) -> Option<()> {
    let uses = uses?;
    if uses.has("page", "number") || uses.has("page", "offset") {
        return Some(());
    }
    let name = if kind == PageKind::Page { "number" } else { "offset" };
    context
        .error(
            codes::PAGE_KEYS,
            at,
            "missing key `param` in `page`",
            format!("by = \"{}\" needs `param`", kind.word()),
        )
        .help(format!(
            "`param` is the query parameter that takes the number, such as \"page\" or \"offset\"; or place \
             {{{{ page.{name} }}}} in the query, headers or body"
        ));
    None
}

fn check_token(context: &mut Context<'_>, uses: Option<&Uses>, at: Loc) {
    if uses.is_some_and(|uses| !uses.has("page", "token")) {
        context
            .error(
                codes::UNUSED_TOKEN,
                at,
                "the page's token is read but never sent",
                "every page would be the first",
            )
            .help("add `param`, or place {{ page.token }} in the query, headers or body");
    }
}
