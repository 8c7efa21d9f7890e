//! `[vars]`: what an instance has to give, and what it gives.

use serde_json::Value;
use toml::de::DeValue;

use super::{
    collections::Scalar,
    kinds::Prose,
    table::{At, Kind, Node, Reader, Shape, table},
};

table! {
    /// A declared variable.
    pub struct VarDef "[vars.NAME]" {
        /// What it is, for whoever fills it in.
        doc "doc": Prose;
        /// A value as it may look.
        example "example": Scalar;
        /// What holds where an instance gives nothing. Without it the variable must be given.
        default "default": Scalar;
        /// The only values allowed.
        one_of "one_of": Vec<At<Scalar>>;
    }
}

/// An entry of `[vars]`: a value, or a declaration.
#[derive(Debug)]
pub enum VarEntry {
    /// A value; in a connector that others use, its default.
    Value(Value),
    /// A declaration.
    Declared(Box<VarDef>),
}

impl Kind for VarEntry {
    const SHAPE: Shape = Shape::Either(&Shape::Scalar, &VarDef::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => {
                VarDef::read(node, reader).map(|def| Self::Declared(Box::new(def)))
            }
            _ => Scalar::read(node, reader).map(|scalar| Self::Value(scalar.0)),
        }
    }
}
