//! `like`: a stream as a copy of its sibling, of which its own keys say what differs.
//!
//! What is copied are the tables as they are written, key by key, before they are read: so a copied
//! key means what it means where it stands, and a finding in it points there. A list is one value.
//! Where `page.by` differs, the sibling's other keys of `page` are about another way of paging, and
//! only the size is copied.

use std::ops::Deref;

use toml::de::{DeTable, DeValue};

use super::{
    collections::Named,
    stream::StreamDef,
    table::{Finding, Kind, Node, Reader, Shape, list_of},
};
use crate::diagnostic::{codes, nearest};

/// `[stream.NAME]` tables, copies completed.
#[derive(Debug, Default)]
pub struct Streams {
    named: Named<StreamDef>,
}

impl Deref for Streams {
    type Target = Named<StreamDef>;

    fn deref(&self) -> &Named<StreamDef> {
        &self.named
    }
}

impl Kind for Streams {
    const SHAPE: Shape = Named::<StreamDef>::SHAPE;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let copies = match node.get_ref() {
            DeValue::Table(entries) => completed(entries, reader),
            _ => None,
        };
        let named = match copies {
            Some(table) => {
                let node = toml::Spanned::new(node.span(), DeValue::Table(table));
                Named::read(&node, reader)
            }
            None => Named::read(node, reader),
        };
        named.map(|named| Self { named })
    }
}

/// The tables with every copy completed; `None` where there is none.
fn completed<'i>(streams: &DeTable<'i>, reader: &mut Reader<'_>) -> Option<DeTable<'i>> {
    streams.iter().find(|(_, stream)| like(stream).is_some())?;
    let mut all = streams.clone();
    for (name, stream) in streams {
        let (Some(wanted), Some(own)) = (like(stream), stream.get_ref().as_table()) else {
            continue;
        };
        let Some(sibling) = sibling(streams, name.get_ref(), wanted, reader) else { continue };
        if let Some(entry) = all.get_mut(name.get_ref().as_ref()) {
            *entry = toml::Spanned::new(stream.span(), DeValue::Table(over(own, sibling)));
        }
    }
    Some(all)
}

/// The value of `like`, where it is a text. What else it may be is reported when it is read.
fn like<'s, 'i>(stream: &'s Node<'i>) -> Option<&'s Node<'i>> {
    let value = stream.get_ref().as_table()?.get("like")?;
    value.get_ref().as_str().map(|_| value)
}

fn sibling<'s, 'i>(
    streams: &'s DeTable<'i>,
    own: &str,
    wanted: &Node<'_>,
    reader: &mut Reader<'_>,
) -> Option<&'s DeTable<'i>> {
    let name = wanted.get_ref().as_str()?;
    let at = reader.loc(wanted.span());
    let others = || {
        let copied = |stream: &Node<'_>| like(stream).is_none();
        streams
            .iter()
            .filter(move |(_, stream)| copied(stream))
            .map(|(name, _)| name.get_ref().as_ref())
    };
    let Some((key, sibling)) = streams.get_key_value(name).filter(|_| name != own) else {
        let label = match nearest(name, others().filter(|other| *other != own)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "expected the name of another stream of this file".to_owned(),
        };
        let message = if name == own {
            "a stream cannot be like itself".to_owned()
        } else {
            format!("unknown stream `{}`", name.escape_debug())
        };
        let known = list_of(others());
        let help = (!known.is_empty()).then(|| format!("there are {known}"));
        reader.report(Finding::new(codes::BAD_LIKE, at, message, label).maybe_help(help));
        return None;
    };
    if let Some(further) = like(sibling) {
        let mut finding = Finding::new(
            codes::BAD_LIKE,
            at,
            format!("`{}` is itself a copy", key.get_ref()),
            "a copy is made of a stream that is written out",
        );
        finding.related.push((reader.loc(further.span()), "of this one".to_owned()));
        let name = further.get_ref().as_str().unwrap_or_default().escape_debug();
        reader.report(finding.help(format!("write like = \"{name}\" here, too")));
        return None;
    }
    sibling.get_ref().as_table()
}

/// `base` with the keys of `own` in place of its own.
fn over<'i>(own: &DeTable<'i>, base: &DeTable<'i>) -> DeTable<'i> {
    let mut all = base.clone();
    for (key, value) in own {
        let name: &str = key.get_ref();
        let merged = match (value.get_ref(), all.get(name).map(toml::Spanned::get_ref)) {
            (DeValue::Table(own), Some(DeValue::Table(base))) => {
                let table = if name == "page" { page_over(own, base) } else { over(own, base) };
                toml::Spanned::new(value.span(), DeValue::Table(table))
            }
            _ => value.clone(),
        };
        // The key's place is that of the stream's own.
        all.remove(name);
        all.insert(key.clone(), merged);
    }
    all
}

fn page_over<'i>(own: &DeTable<'i>, base: &DeTable<'i>) -> DeTable<'i> {
    let by = |table: &DeTable<'i>| {
        table.get("by").and_then(|by| by.get_ref().as_str().map(str::to_owned))
    };
    let mut base = base.clone();
    if by(own).is_some() && by(own) != by(&base) {
        let other = base.keys().map(|key| key.get_ref().to_string());
        let other: Vec<String> = other.filter(|key| key != "size" && key != "size_param").collect();
        for key in &other {
            base.remove(key.as_str());
        }
    }
    over(own, &base)
}
