//! `job`: the requests that create it, look how it stands and fetch its result; that it can be told
//! when it is done, and that it is this one.

use std::time::Duration;

use super::{
    super::{
        DecodePlan, DownloadPlan, JobPlan, JobRequest, Lookup, PageBy, PagePlan, PollPlan,
        RequestBody,
    },
    auth,
    context::{Context, complete},
    destination::{duration, method_of},
    poll::{Entry, Uses, check_method, merge, sent},
    sites, url,
};
use crate::{
    definition::{
        collections::{Pairs, TreeDef},
        job::{DownloadDef, DownloadEntry, JobDef},
        kinds::Expression,
        poll::{MethodDef, PollDef},
        source::SourceDef,
        table::{At, Given, Loc},
    },
    diagnostic::codes,
    map::{Expr, Site},
};

const DEFAULT_EVERY: Duration = Duration::from_secs(10);
const DEFAULT_WITHIN: Duration = Duration::from_hours(1);

/// The requests about a job that exists, before it is known how its result is read.
pub(super) struct Requests {
    status: Request,
    download: Option<(Request, Option<Expr>)>,
}

/// One of them. What the source shares is apart, since not every address gets it.
struct Request {
    by_answer: bool,
    method: http::Method,
    url: Expr,
    query: Split,
    headers: Split,
    body: Option<RequestBody>,
}

struct Split {
    shared: Vec<(String, Expr)>,
    own: Vec<(String, Expr)>,
}

/// A request as it is written.
struct Written<'d> {
    noun: &'static str,
    at: Loc,
    method: &'d Given<MethodDef>,
    path: &'d Given<Expression>,
    query: &'d Given<Pairs<Expression>>,
    headers: &'d Given<Pairs<Expression>>,
    body: &'d Given<TreeDef>,
}

impl Requests {
    /// What the request for the result's pages uses.
    pub fn page_uses(&self) -> Uses {
        match &self.download {
            Some((_, Some(_))) => Uses::default(),
            Some((request, None)) => Uses::of(request.exprs()),
            None => Uses::of(self.status.exprs()),
        }
    }

    fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let download = self.download.iter().flat_map(|(request, url)| request.exprs().chain(url));
        self.status.exprs().chain(download)
    }
}

impl Request {
    fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let pairs = [&self.query.shared, &self.query.own, &self.headers.shared, &self.headers.own];
        let pairs = pairs.into_iter().flatten().map(|(_, expr)| expr);
        let body: Vec<&Expr> = match &self.body {
            Some(RequestBody::Json(tree)) => tree.leaves().into_iter().map(|(_, e)| e).collect(),
            Some(RequestBody::Text(text)) => vec![text],
            Some(RequestBody::Form(_)) | None => Vec::new(),
        };
        [&self.url].into_iter().chain(pairs).chain(body)
    }
}

/// The requests that look how a job stands and that fetch its result.
pub(super) fn requests(
    context: &mut Context<'_>,
    of: (&PollDef, &SourceDef),
    given: &At<JobDef>,
    path: &str,
) -> Option<Requests> {
    let (def, path) = (&given.value, format!("{path}.job"));
    let written = Written {
        noun: "job",
        at: given.at,
        method: &def.method,
        path: &def.path,
        query: &def.query,
        headers: &def.headers,
        body: &def.body,
    };
    let site = if def.download.is_absent() { &sites::JOB_PAGES } else { &sites::JOB };
    let status = request(context, of, &written, site, &path);
    let path = format!("{path}.download");
    let download = match &def.download {
        Given::Absent => None,
        Given::Invalid(_) => return None,
        Given::Value(download) => Some(match &download.value {
            DownloadEntry::Text(text) => {
                let entry = At { value: text.clone(), at: download.at, key: download.key };
                let def = DownloadDef { path: Given::Value(entry), ..DownloadDef::default() };
                fetched(context, of, (&def, download.at), &path)
            }
            DownloadEntry::Table(def) => fetched(context, of, (def, download.at), &path),
        }),
    };
    Some(Requests { status: status?, download: complete(download)? })
}

fn fetched(
    context: &mut Context<'_>,
    of: (&PollDef, &SourceDef),
    (def, at): (&DownloadDef, Loc),
    path: &str,
) -> Option<(Request, Option<Expr>)> {
    let written = Written {
        noun: "download",
        at,
        method: &def.method,
        path: &def.path,
        query: &def.query,
        headers: &def.headers,
        body: &def.body,
    };
    let site = if def.url.is_absent() { &sites::DOWNLOAD } else { &sites::DOWNLOAD_LOOKUP };
    let request = request(context, of, &written, site, path);
    let url = def.url.get().map(|given| {
        let site = &sites::RESPONSE;
        let expr = context.expr(given, site, &format!("{path}.url"))?;
        if expr.as_constant().is_some() {
            context
                .error(
                    codes::BAD_JOB,
                    given.at,
                    "`url` is always the same",
                    "expected the path to the address in the answer",
                )
                .help("write url = \"$.url\"; an address that is known before belongs into `path`");
            return None;
        }
        Some(expr)
    });
    Some((request?, complete(url)?))
}

fn request(
    context: &mut Context<'_>,
    (poll, source): (&PollDef, &SourceDef),
    written: &Written<'_>,
    site: &Site,
    path: &str,
) -> Option<Request> {
    let base = poll.base.or(&source.base);
    let given = written.path.get()?;
    let by_answer = is_by_answer(&given.value.text, !base.is_absent());
    let url = if by_answer {
        context.expr(given, site, &format!("{path}.path"))
    } else {
        url::joined(context, (base, written.path), (written.noun, written.at), site, path)
    };
    let query = split(merge(&source.query, written.query, str::eq), written.query);
    let pairs = |context: &mut Context<'_>, entries: Vec<&Entry>| {
        let compiled = entries.into_iter().filter_map(|(key, value)| {
            Some((key.clone(), context.expr(value, site, &format!("{path}.query.{key}"))?))
        });
        compiled.collect::<Vec<_>>()
    };
    let query = Split { shared: pairs(context, query.0), own: pairs(context, query.1) };
    let shared = merge(&source.headers, &poll.headers, str::eq_ignore_ascii_case);
    let own = written.headers.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    let is_own = |name: &str| own.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let shared = shared.into_iter().filter(|(name, _)| !is_own(name));
    let at = format!("{path}.headers");
    let headers = Split {
        shared: auth::headers(context, shared, site, &at),
        own: auth::headers(context, own, site, &at),
    };
    check_method(context, written.body.key(), written.method);
    let body = written.body.get().map(|body| sent(context, body, site, &format!("{path}.body")));
    Some(Request {
        by_answer,
        method: written.method.value().map_or(http::Method::GET, |method| method_of(*method)),
        url: url?,
        query,
        headers,
        body: complete(body)?,
    })
}

/// What the source shares, and what is the request's own.
fn split<'d>(
    merged: Vec<&'d Entry>,
    own: &'d Given<Pairs<Expression>>,
) -> (Vec<&'d Entry>, Vec<&'d Entry>) {
    let own = own.value().map_or(&[][..], |pairs| pairs.0.as_slice());
    merged.into_iter().partition(|entry| !own.iter().any(|other| std::ptr::eq(other, *entry)))
}

/// Whether an answer says where a request goes: the address begins with a value of it.
fn is_by_answer(text: &str, has_base: bool) -> bool {
    let text = text.trim();
    if text.starts_with('$') {
        return true;
    }
    let scheme = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme));
    match scheme {
        Some(scheme) => names_answer(up_to_slash(&text[scheme.len()..])),
        None if !text.starts_with("{{") => false,
        None if has_base => names_answer(text.split_inclusive("}}").next().unwrap_or_default()),
        None => names_answer(up_to_slash(text)),
    }
}

/// What stands before the first slash that is not within a template's code.
fn up_to_slash(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '/' if depth == 0 => return &text[..at],
            _ => {}
        }
    }
    text
}

/// Whether the code in a text names `job` or `response`.
fn names_answer(text: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '\'' | '"');
    let mut parts = text.split("{{").skip(1).filter_map(|part| part.split("}}").next());
    parts.any(|code| {
        code.split(|c: char| !is_word(c))
            .filter_map(|word| word.split('.').next())
            .any(|root| matches!(root, "job" | "response"))
    })
}

/// The job, over the poll that its result is read by.
pub(super) fn compile(
    context: &mut Context<'_>,
    (poll, source): (&PollDef, &SourceDef),
    given: &At<JobDef>,
    requests: Requests,
    plan: &PollPlan,
    path: &str,
) -> Option<JobPlan> {
    let (def, path) = (&given.value, format!("{path}.job"));
    let take =
        def.take.get().map(|take| context.expr(take, &sites::RESPONSE, &format!("{path}.take")));
    let site = &sites::JOB_ANSWER;
    let mut condition = |name: &'static str, given: &Given<Expression>| {
        context.condition(codes::BAD_JOB, (name, given), site, &format!("{path}.{name}"))
    };
    let done = condition("done", &def.done);
    let failed = def.failed.get().map(|_| condition("failed", &def.failed));
    let (take, done, failed) = (complete(take)?, done?, complete(failed)?);
    let conditions = [Some(&done), failed.as_ref()];
    check_named(context, given, requests.exprs().chain(conditions.into_iter().flatten()));
    if requests.download.is_none() && plan.decode.streams() {
        let failed = failed.iter().map(|failed| (&def.failed, failed));
        check_head(context, [(&def.done, &done)].into_iter().chain(failed));
    }
    check_times(context, def);
    check_max(context, poll, source);
    let whole =
        PollPlan { cursor: None, each: Vec::new(), detail: Vec::new(), job: None, ..plan.clone() };
    let plain = PollPlan {
        page: no_pages(),
        decode: DecodePlan::default(),
        records: None,
        ..whole.clone()
    };
    let create = PollPlan { cursor: plan.cursor.clone(), ..plain.clone() };
    let Requests { status, download } = requests;
    let of_status = if download.is_none() { &whole } else { &plain };
    // Pages of the API's own lists say nothing of a file that lies elsewhere; the poll's own do.
    let pages = if poll.page.is_absent() { no_pages() } else { plan.page.clone() };
    let of_result = if download.is_none() { &pages } else { &no_pages() };
    let status = status.over(of_status, of_result);
    let download = download.map(|(request, url)| match url {
        None => DownloadPlan { request: request.over(&whole, &pages), lookup: None },
        Some(url) => {
            let file = Request { by_answer: true, ..Request::of(&url, &request) };
            let lookup = Lookup { url, file: file.over(&whole, &pages) };
            DownloadPlan { request: request.over(&plain, &no_pages()), lookup: Some(lookup) }
        }
    });
    Some(JobPlan {
        create,
        take,
        status,
        every: duration(&def.every, DEFAULT_EVERY),
        done,
        failed,
        download,
        within: duration(&def.within, DEFAULT_WITHIN),
    })
}

impl Request {
    /// A plain request to an address that `url` gives, with what the source shares.
    fn of(url: &Expr, like: &Self) -> Self {
        Self {
            by_answer: true,
            method: http::Method::GET,
            url: url.clone(),
            query: Split { shared: like.query.shared.clone(), own: Vec::new() },
            headers: Split { shared: like.headers.shared.clone(), own: Vec::new() },
            body: None,
        }
    }

    /// The same with the limits, credentials and rules of the poll; `elsewhere` is how a file pages that
    /// lies with somebody else.
    fn over(self, plan: &PollPlan, elsewhere: &PagePlan) -> JobRequest {
        let joined = |split: &Split| [split.shared.as_slice(), split.own.as_slice()].concat();
        let api = PollPlan {
            method: self.method,
            url: self.url,
            query: joined(&self.query),
            headers: joined(&self.headers),
            body: self.body,
            ..plan.clone()
        };
        let given = PollPlan { query: self.query.own, ..api.clone() };
        let foreign = PollPlan {
            auth: None,
            headers: self.headers.own,
            page: elsewhere.clone(),
            ..given.clone()
        };
        JobRequest { by_answer: self.by_answer, api, given, foreign }
    }
}

fn no_pages() -> PagePlan {
    PagePlan { by: PageBy::None, size: None, size_param: None, stop: None, max: None }
}

/// What names nothing of the job may be told of another one.
fn check_named<'e>(
    context: &mut Context<'_>,
    given: &At<JobDef>,
    mut exprs: impl Iterator<Item = &'e Expr>,
) {
    if exprs.any(|expr| expr.uses().iter().any(|(root, _)| root == "job")) {
        return;
    }
    context
        .error(
            codes::BAD_JOB,
            given.value.path.key().unwrap_or(given.at),
            "nothing says which job is meant",
            "neither this nor `done` or `download` names `job`",
        )
        .help(
            "`job` is the first answer: write path = \"/jobs/{{ job.id }}\"; where the API knows one \
             job only, compare: done = \"{{ response.body.id == job.id and ... }}\"",
        );
}

/// An answer that is read as it comes in has no body to look at.
fn check_head<'d>(
    context: &mut Context<'_>,
    conditions: impl Iterator<Item = (&'d Given<Expression>, &'d Expr)>,
) {
    for (given, expr) in conditions {
        let is_of_body = |(root, member): (String, Option<String>)| {
            root == "response" && member.is_none_or(|member| member == "body")
        };
        if let Some(given) = given.get()
            && expr.uses().into_iter().any(is_of_body)
        {
            context
                .error(
                    codes::BAD_JOB,
                    given.at,
                    "this looks into a body that is read line by line",
                    "the answer is the result itself: there is no `response.body`",
                )
                .help(
                    "say with `download` where the result is; or tell by the status whether it is \
                     there: done = \"{{ response.status == 200 }}\"",
                );
        }
    }
}

fn check_times(context: &mut Context<'_>, def: &JobDef) {
    let every = duration(&def.every, DEFAULT_EVERY);
    let within = duration(&def.within, DEFAULT_WITHIN);
    let Some(at) = def.within.key().or(def.every.key()) else { return };
    if within < every {
        let label = "the job would be given up before it is looked at";
        context.error(codes::BAD_JOB, at, "`within` is shorter than `every`", label).help(
            "`within` is how long the job may take in all, `every` how long between two looks",
        );
    }
}

/// A result is whole; where the API makes no larger one, a window has to be shorter.
fn check_max(context: &mut Context<'_>, poll: &PollDef, source: &SourceDef) {
    let of = |page: &Given<crate::definition::page::PageDef>| {
        page.value().and_then(|page| page.max.key())
    };
    if let Some(at) = of(&poll.page).or(of(&source.page)) {
        context
            .error(
                codes::BAD_JOB,
                at,
                "`max` has no meaning for a job",
                "a job's result is read to its end",
            )
            .help("where the API makes no larger results, ask for less at once: cursor.window");
    }
}

#[cfg(test)]
mod tests {
    use super::is_by_answer;

    #[test]
    fn an_address_is_the_answers_where_its_host_is() {
        for (text, has_base, expected) in [
            ("$.url", true, true),
            ("{{ job.status_url }}", true, true),
            ("{{ response.headers.location }}", true, true),
            ("{{ vars.path }}", true, false),
            ("{{ vars.jobs ~ '/x' }}", true, false),
            ("/jobs/{{ job.id }}", true, false),
            ("{{ vars.prefix }}/jobs/{{ job.id }}", true, false),
            ("{{ job.host }}/jobs/{{ job.id }}", false, true),
            ("{{ job.url }}/results", true, true),
            ("{{ vars.host }}/jobs/{{ job.id }}", false, false),
            ("https://jobs.example/{{ job.id }}", true, false),
            ("https://{{ job.host }}/x", true, true),
            ("https://{{ vars.host }}/{{ job.id }}", true, false),
            ("https://{{ vars['a/b'] }}.{{ response.body.host }}/x", true, true),
        ] {
            assert_eq!(is_by_answer(text, has_base), expected, "{text}");
        }
    }
}
