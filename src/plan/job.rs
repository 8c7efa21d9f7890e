//! `job`, as the runtime sees it: the request that creates it, how it is waited for, and where its
//! result is.

use std::time::Duration;

use super::PollPlan;
use crate::map::Expr;

/// `job`.
#[derive(Clone, Debug)]
pub struct JobPlan {
    /// The poll's own request, without pages: it creates the job.
    pub create: PollPlan,
    /// What `job` is, out of the first answer; `None`: its body.
    pub take: Option<Expr>,
    /// The request that looks how the job stands.
    pub status: JobRequest,
    /// How long between two looks at first.
    pub every: Duration,
    /// Whether the job is done.
    pub done: Expr,
    /// Whether it will never be.
    pub failed: Option<Expr>,
    /// Where its result is; `None`: it is the answer that says that the job is done.
    pub download: Option<DownloadPlan>,
    /// How long the job may take.
    pub within: Duration,
}

/// Where a job's result is.
#[derive(Clone, Debug)]
pub struct DownloadPlan {
    /// The request for the result, or for its address.
    pub request: JobRequest,
    /// Gives the address or addresses, where the answer is not the result.
    pub lookup: Option<Lookup>,
}

/// How the address of a result is looked up.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// Gives the address or addresses, of the answer.
    pub url: Expr,
    /// The request for what lies there.
    pub file: JobRequest,
}

/// A request about a job. Its URL may come from an answer, so there are three of it.
#[derive(Clone, Debug)]
pub struct JobRequest {
    /// Whether the address is what an answer gives. Otherwise the file says it, and `api` is sent.
    pub by_answer: bool,
    /// With all that the source shares.
    pub api: PollPlan,
    /// To an address of the API's own that an answer gives: without the source's query.
    pub given: PollPlan,
    /// To anywhere else: no credentials, no shared headers, no shared pages.
    pub foreign: PollPlan,
}

impl JobPlan {
    /// All that is evaluated to make its requests but the first.
    pub fn request_exprs(&self) -> Vec<&Expr> {
        let mut exprs = self.status.api.request_exprs();
        if let Some(download) = &self.download {
            exprs.extend(download.request.api.request_exprs());
        }
        exprs
    }

    /// All that looks at an answer about the job.
    pub fn conditions(&self) -> impl Iterator<Item = &Expr> {
        let url = self.download.iter().filter_map(|it| it.lookup.as_ref()).map(|it| &it.url);
        [&self.done].into_iter().chain(&self.failed).chain(url)
    }
}
