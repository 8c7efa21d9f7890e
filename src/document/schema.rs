//! A model as a document, field by field.

use super::{
    block::{Block, Line, Table},
    fields::{constant, model_value},
};
use crate::model::{Field, Model};

/// A model, field by field; its name is a heading of this level.
pub fn model(model: &Model, level: u8) -> Vec<Block> {
    let mut blocks = vec![Block::Heading(level, Line::new().code(model.name.as_str()))];
    blocks.extend(model.description.clone().map(Block::paragraph));
    blocks.push(Block::Table(Table {
        caption: format!("Fields of {}", model.name),
        head: vec!["Field", "Value", "Meaning", "Example"],
        rows: model.fields.iter().map(row).collect(),
        is_searched: true,
    }));
    blocks
}

fn row(field: &Field) -> Vec<Line> {
    let mut name = Line::new().code(field.path.as_str());
    for (is_so, word) in [
        (field.is_required, "required"),
        (field.is_pii, "personal"),
        (field.is_deprecated, "deprecated"),
    ] {
        name = if is_so { name.text(" ").mark(word) } else { name };
    }
    vec![
        name,
        model_value(field),
        field.description.as_deref().map(|text| Line::new().prose(text)).unwrap_or_default(),
        field.example.as_ref().map(constant).unwrap_or_default(),
    ]
}
