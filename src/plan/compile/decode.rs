//! `decode` and `csv`: archives first, then one format, and only what that format can use.

use super::{
    super::{CsvPlan, DecodePlan, Format, Wrapper},
    context::Context,
};
use crate::{
    definition::{
        collections::items,
        decode::{CsvDef, DecodeKind},
        poll::PollDef,
        table::{At, Given},
    },
    diagnostic::codes,
};

pub(super) fn compile(context: &mut Context<'_>, def: &PollDef) -> DecodePlan {
    let mut plan = DecodePlan::default();
    let mut format: Option<&At<DecodeKind>> = None;
    for item in items(&def.decode) {
        let wrapper = match item.value {
            DecodeKind::Gzip => Some(Wrapper::Gzip),
            DecodeKind::Zip => Some(Wrapper::Zip),
            _ => None,
        };
        match (wrapper, format) {
            (Some(wrapper), None) => plan.unpack.push(wrapper),
            (None, None) => format = Some(item),
            (_, Some(first)) => {
                context
                    .error(
                        codes::CONFLICT,
                        item.at,
                        format!("nothing can follow \"{}\"", first.value.word()),
                        "expected the end of the list",
                    )
                    .related(first.at, "what is inside is this")
                    .help("archives come first, from the outside in: decode = [\"gzip\", \"csv\"]");
            }
        }
    }
    let csv = csv(context, &def.csv);
    let kind = format.map_or(DecodeKind::Json, |item| item.value);
    if let (Some(given), false) = (def.csv.get(), kind == DecodeKind::Csv) {
        context
            .error(
                codes::MISPLACED_KEY,
                given.key,
                "`csv` without rows of text",
                "only `decode = \"csv\"` has rows",
            )
            .help("add decode = \"csv\", or [\"gzip\", \"csv\"]");
    }
    plan.format = match kind {
        DecodeKind::Jsonl => Format::JsonLines,
        DecodeKind::Csv => Format::Csv(csv),
        DecodeKind::Xml => Format::Xml,
        DecodeKind::Text => Format::Text,
        DecodeKind::Base64 => Format::Base64,
        DecodeKind::Json | DecodeKind::Gzip | DecodeKind::Zip => Format::Json,
    };
    if let (Some(records), true) = (def.records.get(), plan.streams()) {
        let word = kind.word();
        context
            .error(
                codes::MISPLACED_KEY,
                records.key,
                format!("`records` in \"{word}\""),
                "each line is a record already",
            )
            .help("take it out; a part of each record is named in `key`, `when` and `map`");
    }
    plan
}

fn csv(context: &mut Context<'_>, given: &Given<CsvDef>) -> CsvPlan {
    let mut plan = CsvPlan::default();
    let Some(def) = given.value() else { return plan };
    if let Some(delimiter) = def.delimiter.get() {
        match delimiter.value.0.as_bytes() {
            [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => plan.delimiter = *byte,
            _ => {
                context
                    .error(
                        codes::OUT_OF_RANGE,
                        delimiter.at,
                        "`delimiter` is one character",
                        "expected one ASCII character, no quote and no line break",
                    )
                    .help("usual ones are \",\", \";\", \"\\t\" and \"|\"");
            }
        }
    }
    if let Some(columns) = def.columns.value() {
        plan.columns = Some(columns.iter().map(|name| name.value.0.clone()).collect());
    }
    plan.skip = def.skip.value().map_or(0, |skip| skip.0.unsigned_abs());
    plan
}
