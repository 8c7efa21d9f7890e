//! `job`: a report that the API makes in its own time, and that is fetched when it is ready.

use toml::de::DeValue;

use super::{
    collections::{Pairs, TreeDef},
    kinds::{Expression, Span, mistyped},
    poll::MethodDef,
    table::{Kind, Node, Reader, Shape, table},
};

table! {
    /// The poll's own request creates a job; this says how it is waited for, and where its result is.
    pub struct JobDef "[stream.NAME.poll.job]" {
        /// What `job` is, out of the first answer: a path, or a template. Without it: the body.
        take "take": Expression;
        /// The HTTP method of the request that looks how the job stands.
        method "method": MethodDef = "\"GET\"";
        /// Where the request goes that looks how the job stands: appended to the base. What begins with a value of an answer is an address, as the API gives it.
        path "path": Expression, required;
        /// Query parameters, in the order written.
        query "query": Pairs<Expression>;
        /// Headers.
        headers "headers": Pairs<Expression>;
        /// The body: a table is JSON, a string is sent as the text it gives.
        body "body": TreeDef;
        /// How long between two looks at first; then a tenth of the time that the job has taken so far, or as long as the API says.
        every "every": Span = "\"10s\"";
        /// Whether the job is done, by the answer. A missing value is null.
        done "done": Expression, required;
        /// Whether it will never be. The run fails then, and the next one creates the job anew.
        failed "failed": Expression;
        /// Where the result is: a path, the address or addresses that the answer gives, or a request. Without it the answer itself is the result.
        download "download": DownloadEntry;
        /// How long the job may take. The run fails then, and the next one creates the job anew.
        within "within": Span = "\"1h\"";
    }
}

table! {
    /// The request for a job's result, or for the address of its result.
    pub struct DownloadDef "[stream.NAME.poll.job.download]" {
        /// The HTTP method.
        method "method": MethodDef = "\"GET\"";
        /// Appended to the base. What begins with a value of an answer is an address, as the API gives it.
        path "path": Expression, required;
        /// Query parameters, in the order written.
        query "query": Pairs<Expression>;
        /// Headers. Another host than the API's own gets these, and no others.
        headers "headers": Pairs<Expression>;
        /// The body: a table is JSON, a string is sent as the text it gives.
        body "body": TreeDef;
        /// The path from the answer's body to the address or addresses of the result, where the answer is not the result itself.
        url "url": Expression;
    }
}

/// Where a job's result is.
#[derive(Debug)]
pub enum DownloadEntry {
    /// A path, or what the answer gives.
    Text(Expression),
    /// A request.
    Table(Box<DownloadDef>),
}

impl Kind for DownloadEntry {
    const SHAPE: Shape = Shape::Either(&Shape::Expression, &DownloadDef::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(_) => Expression::read(node, reader).map(Self::Text),
            DeValue::Table(_) => DownloadDef::read(node, reader).map(|def| Self::Table(def.into())),
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}
