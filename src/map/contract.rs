//! CONTRACT (to be replaced by the real files of this module: path.rs, template.rs, filters.rs, schema.rs, tree.rs).

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use serde_json::Value;

use crate::world::{Secret, Secrets};

/// Where in the connector file something was written: for messages at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<str>,
    pub line: u32,
    /// The TOML path: `stream.orders.map.total`.
    pub path: Arc<str>,
}

/// What may be named at a place in the file: the table "names, each only where it exists" of the language.
#[derive(Clone, Debug)]
pub struct Site {
    /// Names allowed at the root of a template: `["vars", "record", "with"]`.
    pub names: &'static [&'static str],
    /// Which of them `$` is (`"record"`, `"response"`); `None` where a path is a load error.
    pub root: Option<&'static str>,
    /// `when` and `stop`: a missing value is null there.
    pub lenient: bool,
}

/// Named maps and lookups of one connector file, for the filters `apply` and `lookup`.
#[derive(Clone, Debug, Default)]
pub struct Library {
    pub maps: BTreeMap<String, Arc<Tree>>,
    pub lookups: BTreeMap<String, Arc<Lookup>>,
}

/// `[lookup.NAME]`.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    pub entries: BTreeMap<String, Value>,
}

/// Something wrong with an expression, found at load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprProblem {
    /// Bytes within the expression's text.
    pub range: Range<usize>,
    /// Stable kind: picks the diagnostic's code.
    pub kind: ExprProblemKind,
    /// "unknown filter `decimel`"
    pub message: String,
    /// "did you mean `decimal`?", where there is a way out.
    pub help: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExprProblemKind {
    /// Not an RFC 9535 path, or one that is refused (nested filter).
    Path,
    /// Not a minijinja template.
    Template,
    /// A filter, test or function that does not exist or got wrong arguments.
    Filter,
    /// A name that does not exist at this place.
    Name,
    /// `lookup('x')` or `apply('x')` where there is no such table.
    Reference,
}

/// A compiled string. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Expr(pub ());

impl Expr {
    /// Compiles one of the three kinds of string. All problems at once.
    pub fn compile(text: &str, site: &Site, place: Place, library: &Library) -> Result<Self, Vec<ExprProblem>> { unimplemented!("{text}{site:?}{place:?}{library:?}") }
    /// A constant.
    pub fn constant(_value: Value) -> Self { unimplemented!() }
    /// The constant it always gives, if it does.
    pub fn as_constant(&self) -> Option<&Value> { unimplemented!() }
    /// The text it was compiled from.
    pub fn source(&self) -> &str { unimplemented!() }
    /// Root names that it uses with the first member, e.g. `("vars", Some("shop"))`, `("secret", Some("X"))`, `("out", None)`.
    pub fn uses(&self) -> Vec<(String, Option<String>)> { unimplemented!() }
    pub fn place(&self) -> &Place { unimplemented!() }
    /// The value. `None`: left out (`optional`, or an entry that is only `{{ page.token }}` while there is none).
    pub fn eval(&self, _env: &Env) -> Result<Option<Value>, EvalError> { unimplemented!() }
    /// The value as text: a string is itself, numbers and booleans as JSON prints them; others are an error.
    pub fn text(&self, _env: &Env) -> Result<Option<String>, EvalError> { unimplemented!() }
    /// As `text`, for settings that may hold secrets (the only way to evaluate an expression that uses `secret`).
    pub fn secret(&self, _env: &Env) -> Result<Secret, EvalError> { unimplemented!() }
    /// For `when`, `stop`: whether it holds (minijinja's truth).
    pub fn test(&self, _env: &Env) -> Result<bool, EvalError> { unimplemented!() }
    /// For `records`: each match with nothing copied but the matches.
    pub fn select(&self, _doc: &Value) -> Result<Vec<Value>, EvalError> { unimplemented!() }
}

/// What went wrong in an evaluation: field, path, the value's type, line in the file. Never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    pub place: Place,
    /// "`$.total_price | decimal`: expected digits, found an object"
    pub message: String,
}

impl std::fmt::Display for EvalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}:{})", self.message, self.place.file, self.place.line)
    }
}

/// The names an evaluation sees. Cheap to make and to extend per event.
#[derive(Clone, Default)]
pub struct Env {
    _private: (),
}

impl Env {
    pub fn new() -> Self { Self::default() }
    /// Binds a name to a JSON document (shared, converted lazily).
    #[must_use]
    pub fn with(self, _name: &'static str, _value: Arc<Value>) -> Self { unimplemented!() }
    /// Binds a name to a minijinja value.
    #[must_use]
    pub fn with_dynamic(self, _name: &'static str, _value: minijinja::Value) -> Self { unimplemented!() }
    /// Binds `secret`; `aliases` are an instance's own names ([secrets] table: name in the template -> name looked up).
    #[must_use]
    pub fn with_secrets(self, _secrets: Arc<dyn Secrets>, _aliases: Arc<BTreeMap<String, String>>) -> Self { unimplemented!() }
}

/// Nested leaves, as a TOML table nests them.
#[derive(Clone, Debug)]
pub enum Tree {
    Leaf(Expr),
    /// Numbers, booleans, dates.
    Constant(Value),
    Table(Vec<(String, Tree)>),
    Array(Vec<Tree>),
}

impl Tree {
    pub fn eval(&self, _env: &Env) -> Result<Option<Value>, EvalError> { unimplemented!() }
    /// Every expression in it, with its field path ("customer.email").
    pub fn leaves(&self) -> Vec<(String, &Expr)> { unimplemented!() }
}

/// A stream's `map`: the `"*"` entry is merged first.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub rest: Option<Expr>,
    pub fields: Tree,
}

impl Mapping {
    /// The mapped record.
    pub fn apply(&self, _env: &Env) -> Result<Value, EvalError> { unimplemented!() }
}

/// A compiled JSON schema (draft 2020-12, offline, linear regex engine).
#[derive(Clone)]
pub struct Schema { _private: () }

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("Schema") }
}

impl Schema {
    pub fn compile(_name: &str, _document: &Value) -> Result<Self, String> { unimplemented!() }
    /// Pointers of fields marked `x-pii`.
    pub fn pii(&self) -> &[String] { unimplemented!() }
    /// First few violations, values masked: "/total: not of type string". Empty = fine.
    pub fn check(&self, _value: &Value) -> Vec<String> { unimplemented!() }
}
