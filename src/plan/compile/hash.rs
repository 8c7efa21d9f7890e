//! What a plan was compiled from, as a hash that formatting, comments and moved files do not change.

use ring::digest::{Context, SHA256};
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::super::ContentHash;

/// Takes in one thing after the other, each with its kind and length before it.
pub(super) struct Hasher(Context);

/// Top-level tables that do not change what a connector does.
const INERT: &[&str] = &["change", "lints", "test"];

impl Hasher {
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub fn finish(&self) -> ContentHash {
        let digest = self.0.clone().finish();
        let mut first = [0; 16];
        first.copy_from_slice(&digest.as_ref()[..16]);
        ContentHash(first)
    }

    /// A connector file.
    pub fn document(&mut self, table: &DeTable<'_>) {
        let entries = table.iter().filter(|(key, _)| !INERT.contains(&key.get_ref().as_ref()));
        self.entries(entries);
    }

    /// Something that was hashed before.
    pub fn content(&mut self, content: ContentHash) {
        self.part(b'#', &content.0);
    }

    /// Any text, such as a preset's.
    pub fn text(&mut self, text: &str) {
        self.part(b's', text.as_bytes());
    }

    /// A JSON document, whatever the order of its keys.
    pub fn json(&mut self, value: &Value) {
        match value {
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(key, _)| key.as_str());
                self.part(b'{', &[]);
                for (key, value) in members {
                    self.part(b'k', key.as_bytes());
                    self.json(value);
                }
                self.part(b'}', &[]);
            }
            Value::Array(items) => {
                self.part(b'[', &[]);
                for item in items {
                    self.json(item);
                }
                self.part(b']', &[]);
            }
            Value::String(text) => self.text(text),
            constant => self.part(b'c', constant.to_string().as_bytes()),
        }
    }

    fn part(&mut self, kind: u8, bytes: &[u8]) {
        self.0.update(&[kind]);
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Keys come sorted: TOML tables have no order.
    fn entries<'t, 'i: 't>(
        &mut self,
        entries: impl Iterator<
            Item = (&'t toml::Spanned<toml::de::DeString<'i>>, &'t toml::Spanned<DeValue<'i>>),
        >,
    ) {
        self.part(b'{', &[]);
        for (key, value) in entries {
            self.part(b'k', key.get_ref().as_bytes());
            self.value(value.get_ref());
        }
        self.part(b'}', &[]);
    }

    fn value(&mut self, value: &DeValue<'_>) {
        match value {
            DeValue::Table(table) => self.entries(table.iter()),
            DeValue::Array(items) => {
                self.part(b'[', &[]);
                for item in items {
                    self.value(item.get_ref());
                }
                self.part(b']', &[]);
            }
            DeValue::String(text) => self.text(text),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => self.part(b'i', &number.to_le_bytes()),
                    Err(_) => self.part(b'I', number.as_str().as_bytes()),
                }
            }
            DeValue::Float(number) => self.part(b'f', number.as_str().as_bytes()),
            DeValue::Boolean(value) => self.part(b'b', &[u8::from(*value)]),
            DeValue::Datetime(time) => self.part(b'd', time.to_string().as_bytes()),
        }
    }
}
