//! What only the template engine can evaluate: operators, tests, the engine's own filters, statements.
//!
//! One environment serves every expression of the process; a compiled expression is owned by its
//! plan, so that a reload frees it. Dotted names were taken out at load (see `check`) and are asked
//! for here, one by one, when the engine reaches them: no document is ever converted.

use std::{
    fmt, io,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Expression, State, UndefinedBehavior, Value,
    value::{Kwargs, Object, ObjectRepr, Rest, ValueOrKwargs},
};

use super::{
    Library,
    chain::Chain,
    check::Slot,
    env::{Env, Scope},
    fault::Fault,
    filters::{self, Arguments, Filter},
    json,
    lex::SYNTAX,
};

/// Steps of the engine in one evaluation.
const MAX_STEPS: u64 = 100_000;
/// Bytes of text that one evaluation may give.
pub(super) const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// Names that a template may not use for itself.
pub(super) const RESERVED: &str = "__t";
/// Stands for the dotted name of that number.
pub(super) const SLOT: &str = "__t";
/// Stands for what is filtered.
pub(super) const INPUT: &str = "__tenon_input";
/// Where filters of ours find their surroundings; no template can write this name.
const CONTEXT: &str = "\0";

static STRICT: LazyLock<Environment<'static>> =
    LazyLock::new(|| environment(UndefinedBehavior::Strict));
static LENIENT: LazyLock<Environment<'static>> =
    LazyLock::new(|| environment(UndefinedBehavior::Chainable));

/// The engine's own filters that are not ours, for suggestions.
pub(super) const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "dictsort",
    "escape",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "length",
    "lines",
    "list",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "title",
    "unique",
    "zip",
];

/// The engine's tests, for suggestions.
pub(super) const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(undefined);
    environment.set_syntax(SYNTAX.clone());
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(print);
    environment.set_debug(false);
    environment.set_fuel(Some(MAX_STEPS));
    // It prints every name in reach.
    environment.remove_global("debug");
    environment.remove_filter("pprint");
    environment.remove_filter("safe");
    for name in filters::NAMES {
        environment.add_filter(
            *name,
            move |state: &State, value: Value, arguments: Rest<ValueOrKwargs>| {
                filter(name, state, value, arguments.into_values())
            },
        );
    }
    environment
}

/// Whether the engine has a filter of that name, ours included.
pub(super) fn has_filter(name: &str) -> bool {
    perform("filter", name)
}

/// The name of a filter that there is.
pub(super) fn filter_name(name: &str) -> Option<&'static str> {
    filters::NAMES.iter().chain(FILTERS).copied().find(|known| *known == name)
}

/// Whether the engine has a test of that name.
pub(super) fn has_test(name: &str) -> bool {
    perform("test", name)
}

fn perform(test: &str, name: &str) -> bool {
    // The engine ignores white space within such names.
    let name: String = name.split_whitespace().collect();
    STRICT.empty_state().perform_test(test, &[Value::from(name)]).unwrap_or(false)
}

/// What is printed within a text: texts as they are, everything else as JSON.
fn print(
    out: &mut minijinja::Output<'_>,
    _: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        return Ok(out.write_str(text)?);
    }
    let mut text = String::new();
    json::flow_from_template(value).map_err(raise)?.push_to(&mut text);
    Ok(out.write_str(&text)?)
}

/// What `optional` gives for what is missing.
#[derive(Debug)]
struct Absent;

impl Object for Absent {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// A filter of ours within an expression that the engine evaluates.
fn filter(name: &str, state: &State, value: Value, written: Vec<Value>) -> Result<Value, Error> {
    if value.downcast_object_ref::<Absent>().is_some() {
        return Ok(value);
    }
    let context = state.lookup(CONTEXT).and_then(|context| context.downcast_object::<Context>());
    let Some(context) = context else {
        return Err(ErrorKind::InvalidOperation.into());
    };
    // What it would be otherwise is of no interest where there is something, and may be missing, too.
    if matches!(name, "default" | "d") {
        let is_there = !value.is_undefined() && !value.is_none();
        if is_there || written.first().is_some_and(Value::is_undefined) {
            return Ok(value);
        }
    }
    let arguments = arguments(written)?;
    let filter = match Filter::compile(name, arguments, &context.links.library) {
        Some(Ok(filter)) => filter,
        Some(Err(refused)) => return Err(raise(Fault::Here(refused.message))),
        None => return Err(ErrorKind::UnknownFilter.into()),
    };
    match filter {
        Filter::Default(other) if value.is_undefined() || value.is_none() => {
            Ok(json::owned_to_template(*other))
        }
        Filter::Optional if value.is_undefined() => Ok(Value::from_object(Absent)),
        _ if value.is_undefined() || filter.handles_missing() => Ok(value),
        _ => {
            let input = json::flow_from_template(&value).map_err(raise)?;
            let output = filter.apply(input, &context.scope()).map_err(raise)?;
            Ok(json::flow_to_template(output))
        }
    }
}

fn arguments(written: Vec<Value>) -> Result<Arguments, Error> {
    let convert = |value: &Value| {
        let value = json::from_template(value).map_err(raise)?;
        value.ok_or_else(|| raise(Fault::Here("a filter's argument is missing".to_owned())))
    };
    let mut arguments = Arguments::default();
    for value in written {
        if value.is_kwargs() {
            let named = Kwargs::try_from(value)?;
            for name in named.args() {
                let value: Value = named.get(name)?;
                arguments.named.push((name.to_owned(), convert(&value)?));
            }
        } else {
            arguments.positional.push(convert(&value)?);
        }
    }
    Ok(arguments)
}

/// A fault as the engine's error; [`explain`] takes it out again.
fn raise(fault: Fault) -> Error {
    Error::new(ErrorKind::InvalidOperation, "").with_source(fault)
}

/// An expression or template for the engine. What it compiles to takes some 9 KiB, so that is made at
/// the first evaluation: ten thousand idle connectors need none.
pub(super) struct Jinja {
    text: Box<str>,
    has_statements: bool,
    program: OnceLock<Program>,
    links: Arc<Links>,
}

enum Program {
    Expression(Box<Expression<'static, 'static>>),
    /// An environment of its own owns the template; filters and tests are shared with all others.
    Template(Box<Environment<'static>>),
}

/// What a compiled expression refers to.
struct Links {
    slots: Box<[Slot]>,
    library: Library,
    lenient: bool,
}

/// What an evaluation gives.
pub(super) enum Given {
    Value(Value),
    /// The expression's value is missing; the name that was, where that is known.
    Missing(Option<String>),
    /// `optional` says so.
    LeftOut,
}

impl Jinja {
    /// What stands between `{{` and `}}`.
    pub fn expression(
        text: String,
        slots: Vec<Slot>,
        library: Library,
        lenient: bool,
    ) -> Result<Self, Error> {
        Self::checked(text, false, Links { slots: slots.into(), library, lenient })
    }

    /// A template with statements.
    pub fn template(
        text: String,
        slots: Vec<Slot>,
        library: Library,
        lenient: bool,
    ) -> Result<Self, Error> {
        Self::checked(text, true, Links { slots: slots.into(), library, lenient })
    }

    fn checked(text: String, has_statements: bool, links: Links) -> Result<Self, Error> {
        let jinja = Self {
            text: text.into(),
            has_statements,
            program: OnceLock::new(),
            links: Arc::new(links),
        };
        jinja.compile().map(|_| jinja)
    }

    fn compile(&self) -> Result<Program, Error> {
        let environment: &'static Environment<'static> =
            if self.links.lenient { &LENIENT } else { &STRICT };
        let text = self.text.to_string();
        if self.has_statements {
            let mut environment = environment.clone();
            environment.add_template_owned("", text)?;
            return Ok(Program::Template(Box::new(environment)));
        }
        environment.compile_expression_owned(text).map(|one| Program::Expression(Box::new(one)))
    }

    /// The dotted names in it.
    pub fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.links.slots.iter().map(|slot| &slot.chain)
    }

    /// Evaluates it; `input` is what is filtered.
    pub fn run(&self, scope: &Scope<'_>, input: Option<Value>) -> Result<Given, Fault> {
        let context = Arc::new(Context {
            env: scope.owned(),
            secrets: scope.secrets,
            links: Arc::clone(&self.links),
            input,
            missed: AtomicUsize::new(usize::MAX),
        });
        let names = Value::from_dyn_object(Arc::clone(&context));
        let value = match self.program.get() {
            Some(program) => program.run(names),
            None => {
                self.compile().and_then(|program| self.program.get_or_init(|| program).run(names))
            }
        };
        let value = value.map_err(|error| explain(&error, &context))?;
        if value.as_str().is_some_and(|text| text.len() > MAX_OUTPUT_BYTES) {
            return Err(too_long());
        }
        Ok(if value.is_undefined() {
            Given::Missing(context.missed_name())
        } else if value.downcast_object_ref::<Absent>().is_some() {
            Given::LeftOut
        } else {
            Given::Value(value)
        })
    }
}

impl fmt::Debug for Jinja {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jinja")
    }
}

impl Program {
    fn run(&self, names: Value) -> Result<Value, Error> {
        match self {
            Self::Expression(program) => program.eval(names),
            Self::Template(environment) => render(environment, names),
        }
    }
}

fn render(environment: &Environment<'_>, names: Value) -> Result<Value, Error> {
    let mut output = Capped(Vec::new());
    environment.get_template("")?.render_captured_to(names, &mut output)?;
    Ok(Value::from(String::from_utf8(output.0).unwrap_or_default()))
}

/// Takes so many bytes and no more.
struct Capped(Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The names of one evaluation, as the engine asks for them.
struct Context {
    env: Env,
    secrets: bool,
    links: Arc<Links>,
    input: Option<Value>,
    /// The last slot that was missing.
    missed: AtomicUsize,
}

impl Context {
    fn scope(&self) -> Scope<'_> {
        Scope { env: &self.env, item: None, secrets: self.secrets }
    }

    fn missed_name(&self) -> Option<String> {
        let slot = self.links.slots.get(self.missed.load(Ordering::Relaxed))?;
        Some(slot.chain.to_string())
    }

    fn slot(&self, index: usize) -> Option<Value> {
        let slot = self.links.slots.get(index)?;
        let value = slot.chain.resolve_for_template(&self.scope(), slot.as_written);
        if !value.is_undefined() {
            return Some(value);
        }
        self.missed.store(index, Ordering::Relaxed);
        (self.links.lenient && !slot.keep_missing).then(|| Value::from(()))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.env.fmt(f)
    }
}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            CONTEXT => Some(Value::from_dyn_object(Arc::clone(self))),
            INPUT => self.input.clone(),
            _ => self.slot(key.strip_prefix(SLOT)?.parse().ok()?),
        }
    }
}

fn too_long() -> Fault {
    Fault::Here(format!("gives more than {MAX_OUTPUT_BYTES} bytes"))
}

/// What the engine's error means, without the values its messages quote.
fn explain(error: &Error, context: &Context) -> Fault {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(fault) = inner.downcast_ref::<Fault>() {
            return fault.clone();
        }
        source = inner.source();
    }
    match error.kind() {
        ErrorKind::UndefinedError => missing(context.missed_name().as_deref()),
        ErrorKind::OutOfFuel => Fault::Here(format!("takes more than {MAX_STEPS} steps")),
        ErrorKind::WriteFailure => too_long(),
        kind => match error.detail().filter(|detail| detail.starts_with("tried to use")) {
            Some(detail) if detail.contains("undefined") => {
                missing(context.missed_name().as_deref())
            }
            Some(detail) => Fault::Here(detail.to_owned()),
            None => Fault::Here(kind.to_string()),
        },
    }
}

/// A value that is not there.
pub(super) fn missing(name: Option<&str>) -> Fault {
    Fault::Here(match name {
        Some(name) => format!("found nothing at `{name}`"),
        None => "found nothing".to_owned(),
    })
}
