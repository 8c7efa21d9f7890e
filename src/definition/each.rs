//! `each`: a poll's requests, once for each of something.

use toml::de::DeValue;

use super::{
    collections::Scalar,
    kinds::{Expression, Int, Plain, mistyped},
    table::{At, Kind, Node, Reader, Shape, table},
};

/// What one name of `each` stands for.
#[derive(Debug)]
pub enum EachEntry {
    /// The records of a sibling stream; or a template that gives a list of values.
    Text(Expression),
    /// These values.
    Values(Vec<At<Scalar>>),
    /// Either, with options.
    Table(Box<EachDef>),
}

table! {
    /// One name of `each`, with options.
    pub struct EachDef "[stream.NAME.poll.each]" {
        /// The sibling stream whose records it stands for.
        stream "stream": Plain;
        /// The values it stands for: a list, or a template that gives one.
        values "values": ValuesDef;
        /// Only these keys of the stream's records, a list; empty: all.
        only "only": ValuesDef;
        /// The path within a record of the stream to the values that it stands for.
        over "over": Expression;
        /// So many in one request: the name is a list then.
        batch "batch": Int<2, 100_000>;
        /// All in one request: the name is a list then.
        collect "collect": bool = "false";
        /// Only records that changed since they were last asked for.
        changed "changed": bool = "false";
    }
}

/// A list of values, or a template that gives one.
#[derive(Debug)]
pub enum ValuesDef {
    /// As written.
    Listed(Vec<At<Scalar>>),
    /// By a template.
    Given(Expression),
}

impl Kind for ValuesDef {
    const SHAPE: Shape = Shape::Either(&Shape::Expression, &Shape::List(&Shape::Scalar));

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(_) => Vec::read(node, reader).map(Self::Listed),
            DeValue::String(_) => Expression::read(node, reader).map(Self::Given),
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}

impl Kind for EachEntry {
    const SHAPE: Shape = Shape::Either(&ValuesDef::SHAPE, &EachDef::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(_) => Vec::read(node, reader).map(Self::Values),
            DeValue::String(_) => Expression::read(node, reader).map(Self::Text),
            DeValue::Table(_) => EachDef::read(node, reader).map(|def| Self::Table(Box::new(def))),
            _ => mistyped(node, reader, &Self::SHAPE),
        }
    }
}
