//! [`Expr`]: one of the three kinds of string, compiled.

use std::{fmt, ops::Deref, sync::Arc};

use serde_json::Value;

use crate::{event::Record, world::Secret};

use super::{
    Env, EvalError, ExprProblem, Library, Place, Site,
    chain::{Chain, Target},
    env::{Document, Scope, has_body},
    fault::{Fault, kind},
    filters::Filter,
    flow::{Flow, Scalar, number_of},
    json,
    path::{Found, Path, Taken},
    template::{self, Given, Jinja},
};

mod compile;

/// A compiled string. Cheap to clone.
#[derive(Clone)]
pub struct Expr(Arc<Placed>);

/// An expression of one file.
struct Placed {
    place: Place,
    /// Shared by all files that have the same text at a place of the same kind.
    inner: Arc<Inner>,
}

struct Inner {
    source: Box<str>,
    /// The names that may be used.
    names: &'static [&'static str],
    /// What `$` is.
    root: &'static str,
    /// A missing value is null.
    lenient: bool,
    needs_secret: bool,
    code: Code,
}

enum Code {
    Constant(Value),
    /// A path, or a template that is one expression: keeps its JSON type.
    Single(Piece),
    /// Texts and expressions in turn: gives a text.
    Concat(Box<[Part]>),
    /// A template with statements: gives a text.
    Statements(Jinja),
}

enum Part {
    Text(Box<str>),
    /// A constant in braces, printed like any value.
    Constant(Value),
    Piece(Piece),
}

struct Piece {
    origin: Origin,
    stages: Box<[Stage]>,
    /// The name of the last filter, wherever it is applied.
    last_filter: Option<&'static str>,
}

enum Origin {
    Path(Path),
    Chain(Chain),
    Jinja(Jinja),
}

enum Stage {
    Native(Filter),
    /// A filter of the template engine, or arguments that are no constants.
    Jinja {
        program: Jinja,
        handles_missing: bool,
    },
}

/// What an expression gives, with every digit.
#[derive(Clone, Debug, PartialEq)]
pub enum Exact {
    /// A number that no [`Value`] holds without rounding: its JSON text.
    Digits(String),
    /// Anything else.
    Value(Value),
}

/// What a piece gives.
enum Outcome<'a> {
    Value(Flow<'a>),
    LeftOut,
}

impl Deref for Placed {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Expr {
    /// Compiles one of the three kinds of string. All problems at once.
    pub fn compile(
        text: &str,
        site: &Site,
        place: Place,
        library: &Library,
    ) -> Result<Self, Vec<ExprProblem>> {
        compile::compile(text, site, place, library)
    }

    /// A constant.
    pub fn constant(value: Value) -> Self {
        let nowhere = Place { file: "".into(), line: 0, path: "".into() };
        let source = match &value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let inner = Inner {
            source: source.into(),
            names: &[],
            root: "",
            lenient: false,
            needs_secret: false,
            code: Code::Constant(value),
        };
        Self(Arc::new(Placed { place: nowhere, inner: Arc::new(inner) }))
    }

    /// The constant it always gives, if it does.
    pub fn as_constant(&self) -> Option<&Value> {
        match &self.0.code {
            Code::Constant(value) => Some(value),
            _ => None,
        }
    }

    /// The text it was compiled from.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Root names that it uses with the first member: `("vars", Some("shop"))`,
    /// `("secret", Some("X"))`, `("out", None)`. A path's root is the name that `$` is there.
    pub fn uses(&self) -> Vec<(String, Option<String>)> {
        let mut uses = Vec::new();
        self.0.code.each_name(self.0.root, &mut |root, names| {
            uses.push((root.to_owned(), names.first().map(|&name| name.to_owned())));
        });
        uses.sort();
        uses.dedup();
        uses
    }

    /// What it uses of the root name `root`, each as the members that are named one after the other:
    /// `each.order.id` is `["order", "id"]`. What is chosen by an expression ends a chain.
    pub fn chains(&self, root: &str) -> Vec<Vec<String>> {
        let mut chains = Vec::new();
        self.0.code.each_name(self.0.root, &mut |used, names| {
            if used == root {
                chains.push(names.iter().map(|&name| name.to_owned()).collect());
            }
        });
        chains
    }

    /// Whether it needs a secret, and so [`Expr::secret`].
    pub fn needs_secret(&self) -> bool {
        self.0.needs_secret
    }

    /// Where it was written.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// The name of the last filter: `timestamp`, `integer` and `number` make a value an order.
    pub fn ends_in(&self) -> Option<&str> {
        self.single()?.last_filter
    }

    /// Whether `| default([])` ends it.
    pub fn ends_in_empty_list(&self) -> bool {
        match self.single().and_then(|piece| piece.stages.last()) {
            Some(Stage::Native(Filter::Default(value))) => {
                value.as_array().is_some_and(Vec::is_empty)
            }
            _ => false,
        }
    }

    /// Of a path: the members before the first wildcard, index or filter. `None`: not a path.
    pub fn path_prefix(&self) -> Option<Vec<String>> {
        self.path().map(Path::leading_names)
    }

    /// Of a path: whether it gives the value, not an array of what it finds. `None`: not a path.
    pub fn is_singular(&self) -> Option<bool> {
        self.path().map(Path::is_singular)
    }

    fn single(&self) -> Option<&Piece> {
        match &self.0.code {
            Code::Single(piece) => Some(piece),
            _ => None,
        }
    }

    fn path(&self) -> Option<&Path> {
        match &self.single()?.origin {
            Origin::Path(path) => Some(path),
            _ => None,
        }
    }

    /// The value. `None`: left out (`optional`, or an entry that is only `{{ page.token }}` while
    /// there is none).
    pub fn eval(&self, env: &Env) -> Result<Option<Value>, EvalError> {
        self.eval_in(&Scope::of(env))
    }

    /// The value as text: a string is itself, numbers and booleans as JSON prints them; others are
    /// an error. `None`: left out.
    pub fn text(&self, env: &Env) -> Result<Option<String>, EvalError> {
        self.text_in(&Scope::of(env))
    }

    /// As [`Expr::text`], for settings that may hold secrets: the only way to evaluate an expression
    /// that uses `secret`. What is left out is an error.
    pub fn secret(&self, env: &Env) -> Result<Secret, EvalError> {
        let mut unset = None;
        self.0.code.each_name(self.0.root, &mut |root, names| {
            let name = names.first().filter(|name| root == "secret" && env.secret(name).is_none());
            unset = name.map(|&name| name.to_owned()).or(unset.take());
        });
        if let Some(name) = unset {
            return Err(self.error(Fault::Here(format!("the secret {name} is not set"))));
        }
        let scope = Scope { secrets: true, ..Scope::of(env) };
        match self.text_in(&scope)? {
            Some(text) => Ok(Secret::new(text)),
            None => Err(self.error(template::missing(None))),
        }
    }

    /// For `when`, `stop`: whether it holds. False are `false`, null, 0, the empty text, array and
    /// object, and what is left out.
    pub fn test(&self, env: &Env) -> Result<bool, EvalError> {
        let value = self.eval(env)?;
        Ok(value.is_some_and(|value| match value {
            Value::Null => false,
            Value::Bool(truth) => truth,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(members) => !members.is_empty(),
        }))
    }

    /// As [`Expr::eval`], with every digit of a number that comes as it is from a record.
    pub fn exact(&self, env: &Env) -> Result<Option<Exact>, EvalError> {
        let scope = Scope::of(env);
        let Some(flow) = self.flow_in(&scope)? else { return Ok(None) };
        if let Scalar::Digits(text) = flow.scalar()
            && number_of(&text).is_none()
        {
            return Ok(Some(Exact::Digits(text.into_owned())));
        }
        Ok(flow.into_value().map(Exact::Value))
    }

    /// As [`Expr::eval`], as JSON text: numbers and texts of a record are as they came.
    pub fn json(&self, env: &Env) -> Result<Option<Record>, EvalError> {
        let flow = self.flow_in(&Scope::of(env))?;
        Ok(flow.filter(|flow| !flow.is_missing()).map(|flow| flow.to_record()))
    }

    /// For `records` and `events`: each match, with nothing copied but the matches, byte for byte as
    /// they came. A path to one array gives its items. `$` is the document; `env` has the names that
    /// filters use besides.
    pub fn select(&self, document: &Record, env: &Env) -> Result<Vec<Record>, EvalError> {
        let scope = Scope { item: Some(Document::Record(document)), ..Scope::of(env) };
        let flow = self.flow_in(&scope)?.filter(|flow| !flow.is_missing());
        Ok(flow.map_or_else(Vec::new, |flow| match flow.items() {
            Some(items) => items.iter().map(Flow::to_record).collect(),
            None => vec![flow.to_record()],
        }))
    }

    pub(super) fn eval_in(&self, scope: &Scope<'_>) -> Result<Option<Value>, EvalError> {
        Ok(self.flow_in(scope)?.and_then(Flow::into_value))
    }

    /// The value as JSON text at the end of `out`. Whether there is one; where there is none, `out`
    /// is as it was.
    pub(super) fn write_in(&self, scope: &Scope<'_>, out: &mut Vec<u8>) -> Result<bool, EvalError> {
        Ok(self.flow_in(scope)?.is_some_and(|flow| flow.write(out)))
    }

    /// The value, borrowed for as long as that will do. `None`: left out.
    pub(super) fn flow_in<'a>(&'a self, scope: &Scope<'a>) -> Result<Option<Flow<'a>>, EvalError> {
        self.refuse_secrets(scope)?;
        Ok(match &self.0.code {
            Code::Constant(value) => Some(Flow::Borrowed(value)),
            Code::Single(piece) => match self.piece(piece, scope)? {
                Outcome::LeftOut => None,
                Outcome::Value(flow) if flow.is_null() && piece.is_page() => None,
                Outcome::Value(flow) => Some(flow),
            },
            Code::Concat(parts) => self.concat(parts, scope)?.map(Flow::from),
            Code::Statements(program) => match program.run(scope, None) {
                Ok(Given::Value(value)) => {
                    Some(json::flow_from_template(&value).map_err(|fault| self.error(fault))?)
                }
                Ok(Given::Missing(_) | Given::LeftOut) => None,
                Err(fault) => return Err(self.error(fault)),
            },
        })
    }

    fn text_in(&self, scope: &Scope<'_>) -> Result<Option<String>, EvalError> {
        let Some(flow) = self.flow_in(scope)?.filter(|flow| !flow.is_missing()) else {
            return Ok(None);
        };
        if let Flow::Owned(Value::String(text)) = flow {
            return Ok(Some(text));
        }
        let mut text = String::new();
        flow.push_scalar_to(&mut text).map_err(|fault| self.error(fault))?;
        Ok(Some(text))
    }

    fn refuse_secrets(&self, scope: &Scope<'_>) -> Result<(), EvalError> {
        if scope.secrets || !self.needs_secret() {
            return Ok(());
        }
        Err(self.error(Fault::Here("a secret may not be used here".to_owned())))
    }

    fn error(&self, fault: Fault) -> EvalError {
        fault.at(&self.0.source, &self.0.place)
    }

    fn concat(&self, parts: &[Part], scope: &Scope<'_>) -> Result<Option<String>, EvalError> {
        let mut text = String::with_capacity(self.0.source.len() + 16);
        for part in parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Constant(value) => Flow::Borrowed(value).push_to(&mut text),
                Part::Piece(piece) => match self.piece(piece, scope)? {
                    Outcome::LeftOut => return Ok(None),
                    Outcome::Value(flow) => flow.push_to(&mut text),
                },
            }
        }
        Ok(Some(text))
    }

    fn piece<'a>(&self, piece: &Piece, scope: &Scope<'a>) -> Result<Outcome<'a>, EvalError> {
        self.piece_or_fault(piece, scope).map_err(|fault| self.error(fault))
    }

    fn piece_or_fault<'a>(&self, piece: &Piece, scope: &Scope<'a>) -> Result<Outcome<'a>, Fault> {
        let mut missed = None;
        let flow = match &piece.origin {
            Origin::Path(path) => match scope.document(self.0.root) {
                Some(document) => find(path, document),
                None => Flow::Missing,
            },
            Origin::Chain(chain) => match chain.resolve(scope) {
                Target::Missing => Flow::Missing,
                Target::Json(value) => Flow::Borrowed(value),
                Target::Node(node) => Flow::Node(node),
                Target::Dynamic(value) => json::flow_from_template(&value)?,
            },
            Origin::Jinja(program) => match program.run(scope, None)? {
                Given::LeftOut => return Ok(Outcome::LeftOut),
                Given::Missing(name) => {
                    missed = name;
                    Flow::Missing
                }
                Given::Value(value) => json::flow_from_template(&value)?,
            },
        };
        let Outcome::Value(flow) = run_stages(&piece.stages, flow, scope)? else {
            return Ok(Outcome::LeftOut);
        };
        if !flow.is_missing() {
            return Ok(Outcome::Value(flow));
        }
        if piece.is_page() && matches!(self.0.code, Code::Single(_)) {
            return Ok(Outcome::LeftOut);
        }
        if self.0.lenient {
            return Ok(Outcome::Value(Value::Null.into()));
        }
        Err(self.missing(piece, missed.as_deref(), scope))
    }

    fn missing(&self, piece: &Piece, missed: Option<&str>, scope: &Scope<'_>) -> Fault {
        match &piece.origin {
            Origin::Chain(chain) => template::missing(Some(&chain.to_string())),
            Origin::Jinja(_) => template::missing(missed),
            Origin::Path(path) => match scope.document(self.0.root) {
                None => Fault::Here("there is no document".to_owned()),
                Some(document) => Fault::Here(format!(
                    "found nothing: what there is ends at `{}`",
                    path.deepest(&document.value())
                )),
            },
        }
    }
}

impl Code {
    /// Every root name with the members behind it, as often as it stands there; `root` is what `$` is.
    fn each_name(&self, root: &str, tell: &mut dyn FnMut(&str, &[&str])) {
        match self {
            Self::Constant(_) => {}
            Self::Single(piece) => piece.each_name(root, tell),
            Self::Concat(parts) => {
                for part in parts {
                    if let Part::Piece(piece) = part {
                        piece.each_name(root, tell);
                    }
                }
            }
            Self::Statements(program) => {
                program.chains().for_each(|chain| tell(chain.root, &chain.members()));
            }
        }
    }
}

impl Piece {
    fn each_name(&self, root: &str, tell: &mut dyn FnMut(&str, &[&str])) {
        match &self.origin {
            Origin::Path(_) if has_body(root) => tell(root, &["body"]),
            Origin::Path(path) => tell(root, &path.names()),
            Origin::Chain(chain) => tell(chain.root, &chain.members()),
            Origin::Jinja(program) => {
                program.chains().for_each(|chain| tell(chain.root, &chain.members()));
            }
        }
        for stage in &self.stages {
            if let Stage::Jinja { program, .. } = stage {
                program.chains().for_each(|chain| tell(chain.root, &chain.members()));
            }
        }
    }

    /// `{{ page.token }}` and nothing else: an entry that is left out while there is none.
    fn is_page(&self) -> bool {
        self.stages.is_empty()
            && matches!(&self.origin, Origin::Chain(chain) if chain.root == "page")
    }
}

/// What a path selects. Out of a record it takes just that.
fn find<'a>(path: &Path, document: Document<'a>) -> Flow<'a> {
    let node = match document {
        Document::Json(value) => {
            return match path.find(value) {
                Found::One(value) => Flow::Borrowed(value),
                Found::Many(values) => Flow::Many(values),
                Found::Nothing => Flow::Missing,
            };
        }
        Document::Record(record) => record.root(),
        Document::Node(node) => Some(node),
    };
    match node.map(|node| path.take(node, || document.value())) {
        Some(Taken::One(node)) => Flow::Node(node),
        Some(Taken::Many(nodes)) => Flow::Nodes(nodes),
        Some(Taken::Nothing) | None => Flow::Missing,
    }
}

/// Sends a value through filters. What is missing passes by all of them but `default` and
/// `optional`, and null goes straight to those, or to `filled`, where one of them follows.
fn run_stages<'a>(
    stages: &[Stage],
    mut flow: Flow<'a>,
    scope: &Scope<'_>,
) -> Result<Outcome<'a>, Fault> {
    let mut at = 0;
    while let Some(stage) = stages.get(at) {
        at += 1;
        match stage {
            Stage::Native(Filter::Default(other)) => {
                if flow.is_missing() || flow.is_null() {
                    flow = Flow::Owned((**other).clone());
                }
            }
            Stage::Native(Filter::Optional) if flow.is_missing() => return Ok(Outcome::LeftOut),
            Stage::Native(Filter::Optional) => {}
            _ if flow.is_missing() && !stage.handles_missing() => {}
            _ if flow.is_null()
                && !stage.judges_null()
                && stages[at..].iter().any(Stage::judges_null) =>
            {
                at += stages[at..].iter().take_while(|stage| !stage.judges_null()).count();
            }
            Stage::Native(filter) => flow = filter.apply(flow, scope)?,
            Stage::Jinja { program, .. } => {
                let input = (!flow.is_missing()).then(|| json::flow_to_template(flow));
                flow = match program.run(scope, input)? {
                    Given::LeftOut => return Ok(Outcome::LeftOut),
                    Given::Missing(_) => Flow::Missing,
                    Given::Value(value) => json::flow_from_template(&value)?,
                };
            }
        }
    }
    Ok(Outcome::Value(flow))
}

impl Stage {
    fn handles_missing(&self) -> bool {
        match self {
            Self::Native(filter) => filter.handles_missing(),
            Self::Jinja { handles_missing, .. } => *handles_missing,
        }
    }

    fn judges_null(&self) -> bool {
        match self {
            Self::Native(filter) => filter.judges_null(),
            Self::Jinja { handles_missing, .. } => *handles_missing,
        }
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.code {
            Code::Constant(value) => write!(f, "Expr({} {:?})", kind(value), self.0.source),
            _ => write!(f, "Expr({:?})", self.0.source),
        }
    }
}
