//! The names an evaluation sees.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde_json::Value;

use crate::{
    event::{Node, Record},
    world::{Secret, Secrets},
};

/// The names an evaluation sees. Cheap to make and to extend per event: documents are shared, and
/// handed to templates without being converted.
#[derive(Clone, Default)]
pub struct Env {
    names: Vec<(&'static str, Binding)>,
    secrets: Option<Vault>,
}

#[derive(Clone)]
pub(super) enum Binding {
    Json(Arc<Value>),
    Record(Record),
    Dynamic(minijinja::Value),
}

#[derive(Clone)]
struct Vault {
    secrets: Arc<dyn Secrets>,
    aliases: Arc<BTreeMap<String, String>>,
}

impl Env {
    /// No names at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds a name to a JSON document (shared, read lazily). A later binding of a name hides the
    /// earlier one.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Arc<Value>) -> Self {
        self.bind(name, Binding::Json(value));
        self
    }

    /// Binds a name to a record, which is looked into as it lies: what no expression asks for is
    /// not parsed.
    #[must_use]
    pub fn with_record(mut self, name: &'static str, record: Record) -> Self {
        self.bind(name, Binding::Record(record));
        self
    }

    /// Binds a name to a minijinja value. Paths (`$`) read JSON documents only.
    #[must_use]
    pub fn with_dynamic(mut self, name: &'static str, value: minijinja::Value) -> Self {
        self.bind(name, Binding::Dynamic(value));
        self
    }

    /// Binds `secret`; `aliases` are an instance's own names (`[secrets]`: name in the template →
    /// name looked up). Only [`Expr::secret`](super::Expr::secret) looks into it.
    #[must_use]
    pub fn with_secrets(
        mut self,
        secrets: Arc<dyn Secrets>,
        aliases: Arc<BTreeMap<String, String>>,
    ) -> Self {
        self.secrets = Some(Vault { secrets, aliases });
        self
    }

    fn bind(&mut self, name: &'static str, binding: Binding) {
        match self.names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = binding,
            None => self.names.push((name, binding)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Binding> {
        self.names.iter().find(|(known, _)| *known == name).map(|(_, binding)| binding)
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        let vault = self.secrets.as_ref()?;
        vault.secrets.get(vault.aliases.get(name).map_or(name, String::as_str))
    }
}

impl fmt::Debug for Env {
    /// Names only: the documents are somebody's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names.iter().map(|(name, _)| name)).finish()
    }
}

/// An [`Env`], seen from within an evaluation.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub env: &'a Env,
    /// What `$` and `record` are, where that is not what `env` says: an item under `apply`.
    pub item: Option<Document<'a>>,
    /// Whether `secret` may be looked up.
    pub secrets: bool,
}

impl<'a> Scope<'a> {
    pub fn of(env: &'a Env) -> Self {
        Self { env, item: None, secrets: false }
    }

    /// The document that `$` is, where `root` is the site's.
    pub fn document(&self, root: &str) -> Option<Document<'a>> {
        if let Some(item) = self.item {
            return Some(item);
        }
        match self.env.get(root)? {
            Binding::Json(value) if has_body(root) => value.get("body").map(Document::Json),
            Binding::Json(value) => Some(Document::Json(value)),
            Binding::Record(record) => Some(Document::Record(record)),
            Binding::Dynamic(_) => None,
        }
    }

    /// What a name at the root of a template is.
    pub fn root(&self, name: &str) -> Option<Root<'a>> {
        match (self.item, name) {
            (Some(Document::Json(item)), "record") => Some(Root::Item(item)),
            (Some(Document::Node(item)), "record") => Some(Root::Node(item)),
            (Some(Document::Record(item)), "record") => Some(Root::Record(item)),
            _ => self.env.get(name).map(|binding| match binding {
                Binding::Json(value) => Root::Shared(value),
                Binding::Record(record) => Root::Record(record),
                Binding::Dynamic(value) => Root::Dynamic(value),
            }),
        }
    }

    /// The same names for a template, which owns what it sees.
    pub fn owned(&self) -> Env {
        match self.item {
            Some(Document::Json(item)) => self.env.clone().with("record", Arc::new(item.clone())),
            Some(Document::Node(item)) => self.env.clone().with_record("record", item.to_record()),
            Some(Document::Record(item)) => self.env.clone().with_record("record", item.clone()),
            None => self.env.clone(),
        }
    }
}

/// Whether `$` is the `body` of what is bound to that name: of a request or response.
pub(super) fn has_body(root: &str) -> bool {
    matches!(root, "request" | "response")
}

/// What `$` is.
#[derive(Clone, Copy)]
pub(super) enum Document<'a> {
    Json(&'a Value),
    Record(&'a Record),
    /// Part of a record.
    Node(Node<'a>),
}

impl<'a> Document<'a> {
    /// The whole of it as a tree.
    pub fn value(self) -> Cow<'a, Value> {
        match self {
            Self::Json(value) => Cow::Borrowed(value),
            Self::Record(record) => Cow::Borrowed(record.value()),
            Self::Node(node) => Cow::Owned(node.to_value()),
        }
    }
}

/// What a name is bound to.
pub(super) enum Root<'a> {
    Item(&'a Value),
    Node(Node<'a>),
    Shared(&'a Arc<Value>),
    Record(&'a Record),
    Dynamic(&'a minijinja::Value),
}
