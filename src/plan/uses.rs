//! What a stream's expressions look at: so that nobody has to make what none of them does.

use super::{PollPlan, RequestBody, StreamPlan};
use crate::map::Expr;

impl PollPlan {
    /// All that is evaluated to make a request.
    pub fn request_exprs(&self) -> Vec<&Expr> {
        let pairs = self.query.iter().chain(&self.headers).map(|(_, expr)| expr);
        let mut exprs: Vec<&Expr> = std::iter::once(&self.url).chain(pairs).collect();
        match &self.body {
            Some(RequestBody::Json(tree)) => {
                exprs.extend(tree.leaves().into_iter().map(|(_, expr)| expr));
            }
            Some(RequestBody::Text(text)) => exprs.push(text),
            Some(RequestBody::Form(fields)) => exprs.extend(fields.iter().map(|(_, expr)| expr)),
            None => {}
        }
        exprs.extend(self.detail.iter().flat_map(|detail| detail.poll.request_exprs()));
        exprs.extend(self.job.iter().flat_map(|job| job.request_exprs()));
        exprs
    }
}

impl StreamPlan {
    /// All that is evaluated when a record comes in.
    pub fn ingest_exprs(&self) -> impl Iterator<Item = &Expr> {
        let with = self.with.iter().map(|(_, expr)| expr);
        let revision = self.revision.as_ref().map(|revision| &revision.expr);
        let others = [&self.tenant, &self.when, &self.delete].into_iter().flatten();
        self.key.iter().chain(revision).chain(others).chain(with)
    }

    /// Whether one of them uses the name.
    pub fn names_used(&self, name: &str) -> bool {
        self.ingest_exprs().flat_map(Expr::uses).any(|(used, _)| used == name)
    }
}
