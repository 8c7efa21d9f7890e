//! What a stream's expressions look at: so that nobody has to make what none of them does.

use super::StreamPlan;
use crate::map::Expr;

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
