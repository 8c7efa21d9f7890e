//! How pages follow each other, from what the answer says and what the request takes.

use serde_json::{Map, Value};

use super::{Evidence, Guess, Param, member, plain, record::Found};

/// A way of paging, as `page` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageGuess {
    /// `by`.
    pub by: &'static str,
    /// `param`.
    pub param: Option<String>,
    /// `first`, where it is not 1.
    pub first: Option<i64>,
    /// `size`.
    pub size: Option<u64>,
    /// `size_param`.
    pub size_param: Option<String>,
    /// `next`.
    pub next: Option<String>,
}

const SIZES: &[&str] = &[
    "limit",
    "pagesize",
    "perpage",
    "size",
    "count",
    "maxresults",
    "pagelimit",
    "top",
    "itemsperpage",
    "first",
    "resultsperpage",
];
const TOKENS: &[&str] = &[
    "cursor",
    "pagetoken",
    "nextpagetoken",
    "after",
    "startingafter",
    "continuationtoken",
    "nexttoken",
    "token",
    "pagecursor",
    "nextcursor",
    "pageinfo",
    "pageafter",
    "startcursor",
    "continuation",
    "marker",
];
const NEXT_URLS: &[&str] =
    &["next", "nexturl", "nextlink", "nextpageurl", "nextpagelink", "odatanextlink", "nexthref"];
const NEXT_TOKENS: &[&str] = &[
    "nextcursor",
    "nextpagetoken",
    "nexttoken",
    "endcursor",
    "continuationtoken",
    "nextpagecursor",
    "cursor",
    "after",
    "nextpage",
    "offset",
    "next",
    "scrollid",
    "continuation",
    "nextmarker",
];
const DEFAULT_SIZE: u64 = 100;

/// A value beside the records.
struct Beside<'a> {
    path: String,
    name: String,
    value: &'a Value,
}

pub(super) fn page(evidence: &Evidence, found: &Found<'_>) -> Guess<Option<PageGuess>> {
    let mut beside = Vec::new();
    // Within a record a `next` means something else.
    if let Value::Object(object) = &evidence.response
        && found.path.value.is_some()
    {
        gather(object, "$", 0, &mut beside);
    }
    let params = evidence.params.as_deref().unwrap_or_default();
    let find = |known: &[&str]| {
        known
            .iter()
            .find_map(|known| params.iter().find(|param| plain(&param.name).ends_with(known)))
    };
    let size = |page: PageGuess| with_size(page, find(SIZES), &beside);
    if let Some((next, is_sure)) = next_url(&beside) {
        let why = format!("`{next}` of the answer holds the next page's URL");
        let value = size(PageGuess { by: "next", next: Some(next), ..PageGuess::default() });
        return Guess { value: Some(value), why, is_sure };
    }
    if let Some(token) = token(&beside) {
        let known = find(TOKENS).map(|param| param.name.clone());
        let is_sure = known.is_some();
        let param = known.unwrap_or_else(|| param_for(&token.name));
        let why = format!(
            "`{}` of the answer looks like the next page's token; `{param}` {}",
            token.path,
            if is_sure { "takes it" } else { "is a guess at the parameter that takes it" }
        );
        let next = Some(token.path.clone());
        let value =
            size(PageGuess { by: "cursor", param: Some(param), next, ..PageGuess::default() });
        return Guess { value: Some(value), why, is_sure };
    }
    if evidence.has_link_header {
        let value = size(PageGuess { by: "link", ..PageGuess::default() });
        return Guess::sure(Some(value), "the answer is described with a `Link` header");
    }
    numbered(&beside, &find, size).unwrap_or_else(|| {
        Guess::look(
            None,
            "nothing says how pages follow each other, so only the first is read: by = \"link\", \"page\", \
             \"offset\", \"cursor\" or \"next\"?",
        )
    })
}

/// Pages that are counted.
fn numbered<'p>(
    beside: &[Beside<'_>],
    find: &impl Fn(&[&str]) -> Option<&'p Param>,
    size: impl Fn(PageGuess) -> PageGuess,
) -> Option<Guess<Option<PageGuess>>> {
    const OFFSETS: &[&str] = &["offset", "startat", "startindex", "skip"];
    const PAGES: &[&str] = &["page", "pagenumber", "currentpage", "pageindex", "pageno"];
    let said = |known: &[&str]| {
        beside
            .iter()
            .find(|one| one.value.is_number() && known.contains(&plain(&one.name).as_str()))
    };
    for (by, known) in [("offset", OFFSETS), ("page", PAGES)] {
        let param = find(known);
        let seen = said(known);
        if param.is_none() && seen.is_none() {
            continue;
        }
        let name = match (param, seen) {
            (Some(param), _) => param.name.clone(),
            (None, Some(_)) if by == "page" => "page".to_owned(),
            (None, Some(seen)) => seen.name.clone(),
            (None, None) => continue,
        };
        let why = match (param, seen) {
            (Some(_), Some(seen)) => {
                format!("`{name}` counts, and `{}` of the answer says where it stands", seen.path)
            }
            (Some(_), None) => format!("by the parameter `{name}`"),
            (None, Some(seen)) => {
                format!("`{}` of the answer counts; the parameter's name is a guess", seen.path)
            }
            (None, None) => String::new(),
        };
        let first =
            (by == "page" && seen.is_some_and(|seen| seen.value.as_i64() == Some(0))).then_some(0);
        let mut page = size(PageGuess { by, param: Some(name), first, ..PageGuess::default() });
        // A smaller page is the last one; without a size only an empty page would be.
        page.size.get_or_insert(DEFAULT_SIZE);
        return Some(Guess { value: Some(page), why, is_sure: param.is_some() });
    }
    None
}

fn gather<'a>(
    object: &'a Map<String, Value>,
    path: &str,
    depth: usize,
    found: &mut Vec<Beside<'a>>,
) {
    for (name, value) in object {
        let path = format!("{path}{}", member(name));
        match value {
            Value::Object(inner) if depth < 3 => gather(inner, &path, depth + 1, found),
            Value::Array(_) | Value::Object(_) => {}
            value => {
                // HAL and JSON:API write `next: { href: ... }`.
                let parent = path.rsplit('.').nth(1).unwrap_or_default();
                let is_href = plain(name) == "href" && plain(parent) == "next";
                let name = if is_href { "next" } else { name };
                found.push(Beside { path, name: name.to_owned(), value });
            }
        }
    }
}

fn is_url(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        text.starts_with("http://") || text.starts_with("https://") || text.starts_with('/')
    })
}

fn next_url(beside: &[Beside<'_>]) -> Option<(String, bool)> {
    let named = || beside.iter().filter(|one| NEXT_URLS.contains(&plain(&one.name).as_str()));
    if let Some(one) = named().find(|one| is_url(one.value)) {
        return Some((one.path.clone(), true));
    }
    // On the last page there is none; the name has to do.
    let is_link =
        |one: &&Beside<'_>| plain(&one.name) != "next" || plain(&one.path).contains("link");
    named()
        .find(|one| one.value.is_null() || one.value.is_string() && is_link(one))
        .map(|one| (one.path.clone(), false))
}

fn token<'b, 'a>(beside: &'b [Beside<'a>]) -> Option<&'b Beside<'a>> {
    NEXT_TOKENS.iter().find_map(|known| {
        beside.iter().find(|one| {
            plain(&one.name) == *known
                && (one.value.is_string() || one.value.is_null() && known.starts_with("next"))
        })
    })
}

/// The parameter that takes a token of this name, by convention.
fn param_for(name: &str) -> String {
    let lower = name.strip_prefix("next_").or_else(|| name.strip_prefix("end_"));
    if let Some(rest) = lower {
        return rest.to_owned();
    }
    match name.strip_prefix("next").or_else(|| name.strip_prefix("end")) {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_uppercase()) => {
            format!("{}{}", rest[..1].to_ascii_lowercase(), &rest[1..])
        }
        Some(_) => "cursor".to_owned(),
        None => name.to_owned(),
    }
}

fn with_size(mut page: PageGuess, param: Option<&Param>, beside: &[Beside<'_>]) -> PageGuess {
    if let Some(param) = param {
        page.size_param = Some(param.name.clone());
        let given = param.value.as_deref().and_then(|value| value.parse().ok());
        page.size = Some(param.maximum.or(given).unwrap_or(DEFAULT_SIZE))
            .filter(|size| (1..=1_000_000).contains(size));
        return page;
    }
    let seen = beside
        .iter()
        .find(|one| SIZES.contains(&plain(&one.name).as_str()) && plain(&one.name) != "count");
    if let Some(size) =
        seen.and_then(|seen| seen.value.as_u64()).filter(|size| (1..=1_000_000).contains(size))
        && let Some(seen) = seen
        && matches!(page.by, "page" | "offset")
    {
        page.size = Some(size);
        page.size_param = Some(seen.name.clone());
    }
    page
}
