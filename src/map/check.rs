//! Reads a template's syntax tree at load: unknown names, filters, tests and functions become
//! problems with their bytes, and dotted names are taken out for native walking.

use std::ops::Range;

use minijinja::machinery::{Span, ast, parse_expr};

use super::{
    ExprProblem, ExprProblemKind, Library, Site,
    chain::Chain,
    filters::{self, Arguments, Filter, Refused},
    json,
    path::Step,
    template,
};

/// What the engine defines besides ours.
const FUNCTIONS: &[&str] = &["range", "dict", "namespace"];

/// A dotted name that was taken out of a template.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub chain: Chain,
    /// Where a missing value is null, it is left missing here: under `is defined` and `default`.
    pub keep_missing: bool,
    /// Only shown or filtered: a number keeps the digits it came with.
    pub as_written: bool,
}

/// What becomes of an expression's value.
#[derive(Clone, Copy, Default)]
struct Use {
    /// See [`Slot::keep_missing`].
    keep_missing: bool,
    /// See [`Slot::as_written`].
    as_written: bool,
}

impl Use {
    /// Counted with, compared, or gone through.
    const WORKED: Self = Self { keep_missing: false, as_written: false };
    /// Printed, or given as it is.
    const SHOWN: Self = Self { keep_missing: false, as_written: true };
}

/// Collects what is found in the pieces of one expression.
pub(super) struct Checker<'a> {
    site: &'a Site,
    library: &'a Library,
    /// The text being read, and where it begins in the whole expression (it may begin with bytes of
    /// our own, hence the sign).
    text: &'a str,
    base: isize,
    whole: usize,
    locals: Vec<Vec<&'a str>>,
    slots: Vec<(Range<usize>, Slot)>,
    /// The filters that end the expression: `optional` may be one of them, and nowhere else.
    ends: Vec<*const ast::Filter<'a>>,
    /// What the text refers to by `apply` and `lookup`.
    pub used: Library,
    pub problems: Vec<ExprProblem>,
}

impl<'a> Checker<'a> {
    pub fn new(site: &'a Site, library: &'a Library, source: &str) -> Self {
        Self {
            site,
            library,
            text: "",
            base: 0,
            whole: source.len(),
            locals: vec![Vec::new()],
            slots: Vec::new(),
            ends: Vec::new(),
            used: Library::default(),
            problems: Vec::new(),
        }
    }

    /// The next expression, which begins at `base`. `input` is a name that it may use besides.
    pub fn expression(&mut self, text: &'a str, base: isize, tree: &ast::Expr<'a>) {
        (self.text, self.base) = (text, base);
        self.locals = vec![vec![template::INPUT]];
        self.ends.clear();
        let mut at = tree;
        while let ast::Expr::Filter(node) = at {
            self.ends.push(&raw const **node);
            let Some(input) = &node.expr else { break };
            at = input;
        }
        self.expr(tree, Use::SHOWN);
    }

    /// A template with statements.
    pub fn template(&mut self, text: &'a str, tree: &ast::Stmt<'a>) {
        (self.text, self.base) = (text, 0);
        self.locals = vec![Vec::new()];
        self.statement(tree);
    }

    /// The text last read, with its dotted names replaced, and what they stand for.
    pub fn take_slots(&mut self) -> (String, Vec<Slot>) {
        let mut found = std::mem::take(&mut self.slots);
        found.sort_by_key(|(range, _)| range.start);
        let mut text = String::with_capacity(self.text.len());
        let mut slots = Vec::with_capacity(found.len());
        let mut at = 0;
        for (range, slot) in found {
            text.push_str(&self.text[at..range.start]);
            text.push_str(template::SLOT);
            text.push_str(&slots.len().to_string());
            at = range.end;
            slots.push(slot);
        }
        text.push_str(&self.text[at..]);
        (text, slots)
    }

    /// A name of the place, as the place has it.
    pub fn site_name(&self, name: &str) -> Option<&'static str> {
        self.site.names.iter().copied().find(|known| *known == name)
    }

    /// What `apply` and `lookup` may refer to.
    pub fn library(&self) -> &'a Library {
        self.library
    }

    /// Says that bytes of the text being read are wrong.
    pub fn problem(
        &mut self,
        range: Range<usize>,
        kind: ExprProblemKind,
        message: impl Into<String>,
    ) -> &mut ExprProblem {
        let place =
            |at: usize| usize::try_from(self.base + at as isize).unwrap_or(0).min(self.whole);
        let range = place(range.start)..place(range.end).max(place(range.start));
        self.problems.push(ExprProblem::new(range, kind, message));
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = (span.start_offset as usize).min(self.text.len());
        start..(span.end_offset as usize).clamp(start, self.text.len())
    }

    /// The bytes of a dotted name: the engine's span of a member begins at the member.
    fn chain_range(&self, tree: &ast::Expr<'_>) -> Range<usize> {
        let range = self.range(tree.span());
        self.range(root_span(tree)).start.min(range.end)..range.end
    }

    fn is_local(&self, name: &str) -> bool {
        self.locals.iter().flatten().any(|local| *local == name)
    }

    fn expr(&mut self, tree: &ast::Expr<'a>, usage: Use) {
        if let Some((root, steps)) = chain_of(tree) {
            let range = self.chain_range(tree);
            return self.name(root, steps, range, usage);
        }
        match tree {
            ast::Expr::Var(_) | ast::Expr::Const(_) => {}
            ast::Expr::Slice(node) => {
                self.expr(&node.expr, Use::WORKED);
                for part in [&node.start, &node.stop, &node.step].into_iter().flatten() {
                    self.expr(part, Use::WORKED);
                }
            }
            ast::Expr::UnaryOp(node) => self.expr(&node.expr, Use::WORKED),
            ast::Expr::BinOp(node) => {
                let joins = matches!(node.op, ast::BinOpKind::Concat);
                let usage = if joins { Use::SHOWN } else { Use::WORKED };
                self.expr(&node.left, usage);
                self.expr(&node.right, usage);
            }
            ast::Expr::Compare(node) => {
                self.expr(&node.expr, Use::WORKED);
                node.ops.iter().for_each(|op| self.expr(&op.expr, Use::WORKED));
            }
            ast::Expr::IfExpr(node) => {
                self.expr(&node.test_expr, Use::WORKED);
                self.expr(&node.true_expr, usage);
                if let Some(other) = &node.false_expr {
                    self.expr(other, usage);
                } else {
                    let range = self.range(node.true_expr.span());
                    let message = "an `if` needs an `else`: what is it otherwise?";
                    let problem = self.problem(range, ExprProblemKind::Template, message);
                    problem.help = Some("write `x if y else none`, or `x | optional`".to_owned());
                }
            }
            ast::Expr::Filter(node) => self.filter(node, tree.span(), usage),
            ast::Expr::Test(node) => self.test(node, tree.span()),
            ast::Expr::GetAttr(node) => self.expr(&node.expr, Use::WORKED),
            ast::Expr::GetItem(node) => {
                self.expr(&node.expr, Use::WORKED);
                self.expr(&node.subscript_expr, Use::WORKED);
            }
            ast::Expr::Call(node) => self.call(node),
            ast::Expr::List(node) => {
                node.items.iter().for_each(|item| self.expr(item, Use::WORKED));
            }
            ast::Expr::Tuple(node) => {
                node.items.iter().for_each(|item| self.expr(item, Use::WORKED));
            }
            ast::Expr::Map(node) => {
                node.keys.iter().chain(&node.values).for_each(|item| self.expr(item, Use::WORKED));
            }
        }
    }

    /// A name at the root of a template, with what follows it.
    fn name(&mut self, root: &str, steps: Vec<Step>, range: Range<usize>, usage: Use) {
        if self.is_local(root) || (steps.is_empty() && FUNCTIONS.contains(&root)) {
            return;
        }
        let names = self.site.names;
        let Some(root) = self.site_name(root) else {
            let help = if names.is_empty() {
                "nothing may be named here".to_owned()
            } else {
                format!("here stand {}", names.join(", "))
            };
            let end = (range.start + root.len()).min(range.end);
            let problem = self.problem(
                range.start..end,
                ExprProblemKind::Name,
                format!("there is no `{root}` here"),
            );
            *problem = problem.clone().nearest(root, names.iter().copied(), Some(help));
            return;
        };
        // The engine's spans are its own affair: a dotted name is taken out as a whole only where its
        // bytes read as this very name, and by its root alone otherwise (`(record.a).b`).
        let exact = parse_expr(&self.text[range.clone()])
            .is_ok_and(|tree| chain_of(&tree) == Some((root, steps.clone())));
        if root == "secret" && !(exact && matches!(steps.first(), Some(Step::Name(_)))) {
            let problem = self.problem(
                range,
                ExprProblemKind::Name,
                "a secret is named as it stands: which ones are needed is known at load",
            );
            problem.help = Some("write `secret.NAME`".to_owned());
            return;
        }
        let (range, steps, usage) = if exact {
            (range, steps, usage)
        } else {
            (range.start..range.start + root.len(), Vec::new(), Use::WORKED)
        };
        let chain = Chain { root, steps: steps.into() };
        let Use { keep_missing, as_written } = usage;
        self.slots.push((range, Slot { chain, keep_missing, as_written }));
    }

    fn filter(&mut self, node: &ast::Filter<'a>, span: Span, usage: Use) {
        let handles = matches!(node.name, "default" | "d" | "optional");
        if let Some(input) = &node.expr {
            let ours = !handles && filters::NAMES.contains(&node.name);
            self.expr(
                input,
                Use {
                    keep_missing: usage.keep_missing || handles,
                    as_written: ours || (handles && usage.as_written),
                },
            );
        }
        self.arguments(&node.args);
        if node.name == "decimal" {
            self.refuse_float(node);
        }
        let start = node.expr.as_ref().map_or(span.start_offset, |input| input.span().end_offset);
        let range = self.word(node.name, start as usize, span);
        match self.compile_filter(node) {
            Some(Ok(Filter::Optional)) if !self.ends.contains(&&raw const *node) => {
                let message =
                    "`optional` leaves out a whole entry: it stands at the end of `{{ }}`";
                self.problem(range, ExprProblemKind::Filter, message);
            }
            Some(Ok(_)) => {}
            Some(Err(refused)) => self.refused(refused, range),
            None if template::has_filter(node.name) || filters::NAMES.contains(&node.name) => {}
            None => {
                let known = filters::NAMES.iter().chain(template::FILTERS).copied();
                let problem = self.problem(
                    range,
                    ExprProblemKind::Filter,
                    format!("unknown filter `{}`", node.name),
                );
                *problem = problem.clone().nearest(node.name, known, None);
            }
        }
    }

    /// `{{ 1.5 | decimal }}`: a decimal's digits are written as a text.
    fn refuse_float(&mut self, node: &ast::Filter<'a>) {
        let Some(input) = &node.expr else { return };
        let constant = input.as_const().filter(minijinja::Value::is_number);
        if constant.is_none_or(|number| number.is_integer()) {
            return;
        }
        let range = self.range(input.span());
        let message = "a decimal is digits, and this number is a float";
        let problem = self.problem(range, ExprProblemKind::Filter, message);
        problem.help = Some("write the number as a text: '0.50'".to_owned());
    }

    /// One of our filters, where its arguments are constants; `None` where it is not or they are not.
    pub fn compile_filter(&mut self, node: &ast::Filter<'_>) -> Option<Result<Filter, Refused>> {
        let arguments = constant_arguments(&node.args)?;
        let named = arguments.positional.first().and_then(|name| name.as_str()).map(str::to_owned);
        let compiled = Filter::compile(node.name, arguments, self.library)?;
        if let Some(name) = named {
            if let Ok(Filter::Apply(tree)) = &compiled {
                self.used.maps.insert(name, tree.clone());
            } else if let Ok(Filter::Lookup { table, .. }) = &compiled {
                self.used.lookups.insert(name, table.clone());
            }
        }
        Some(compiled)
    }

    fn refused(&mut self, refused: Refused, range: Range<usize>) {
        let otherwise = match (refused.kind, refused.known.is_empty()) {
            (ExprProblemKind::Reference, false) => {
                Some(format!("there are {}", refused.known.join(", ")))
            }
            _ => None,
        };
        let problem = self.problem(range, refused.kind, refused.message);
        let known = refused.known.iter().map(String::as_str);
        *problem = problem.clone().nearest(&refused.word, known, otherwise);
    }

    fn test(&mut self, node: &ast::Test<'a>, span: Span) {
        let keep_missing = matches!(node.name, "defined" | "undefined");
        self.expr(&node.expr, Use { keep_missing, as_written: false });
        self.arguments(&node.args);
        if !template::has_test(node.name) {
            let range = self.word(node.name, node.expr.span().end_offset as usize, span);
            let problem = self.problem(
                range,
                ExprProblemKind::Filter,
                format!("unknown test `{}`", node.name),
            );
            *problem = problem.clone().nearest(node.name, template::TESTS.iter().copied(), None);
        }
    }

    fn call(&mut self, node: &ast::Call<'a>) {
        match &node.expr {
            ast::Expr::Var(name) if self.is_local(name.id) || FUNCTIONS.contains(&name.id) => {}
            ast::Expr::Var(name) => {
                let range = self.range(name.span());
                let problem = self.problem(
                    range,
                    ExprProblemKind::Filter,
                    format!("unknown function `{}`", name.id),
                );
                let is_filter = filters::NAMES.contains(&name.id) || template::has_filter(name.id);
                let otherwise = is_filter.then(|| format!("a filter is written `x | {}`", name.id));
                *problem = problem.clone().nearest(name.id, FUNCTIONS.iter().copied(), otherwise);
            }
            ast::Expr::GetAttr(member) => {
                let local = chain_of(&member.expr).is_some_and(|(root, _)| self.is_local(root));
                if !local {
                    self.expr(&member.expr, Use::WORKED);
                    let range = self.chain_range(&node.expr);
                    let problem = self.problem(
                        range,
                        ExprProblemKind::Filter,
                        format!("`{}` is not a function: values have no methods", member.name),
                    );
                    problem.help = Some("filters do their work: `x | default(0)`".to_owned());
                }
            }
            other => self.expr(other, Use::WORKED),
        }
        self.arguments(&node.args);
    }

    fn arguments(&mut self, arguments: &[ast::CallArg<'a>]) {
        for argument in arguments {
            let (ast::CallArg::Pos(value)
            | ast::CallArg::Kwarg(_, value)
            | ast::CallArg::PosSplat(value)
            | ast::CallArg::KwargSplat(value)) = argument;
            self.expr(value, Use::WORKED);
        }
    }

    /// Where a filter's or test's name stands, after the byte `start` of the text.
    fn word(&self, word: &str, start: usize, span: Span) -> Range<usize> {
        let start = start.min(self.text.len());
        match self.text.get(start..).and_then(|rest| rest.find(word)) {
            Some(at) => start + at..start + at + word.len(),
            None => self.range(span),
        }
    }

    fn statements(&mut self, trees: &[ast::Stmt<'a>]) {
        for tree in trees {
            self.statement(tree);
        }
    }

    fn block(&mut self, locals: Vec<&'a str>, body: &[ast::Stmt<'a>]) {
        self.locals.push(locals);
        self.statements(body);
        self.locals.pop();
    }

    fn statement(&mut self, tree: &ast::Stmt<'a>) {
        match tree {
            ast::Stmt::Template(node) => self.statements(&node.children),
            ast::Stmt::EmitExpr(node) => self.expr(&node.expr, Use::SHOWN),
            ast::Stmt::EmitRaw(_) => {}
            ast::Stmt::ForLoop(node) => {
                self.expr(&node.iter, Use::WORKED);
                let mut locals = vec!["loop"];
                self.assigned(&node.target, &mut locals);
                self.locals.push(locals);
                if let Some(filter) = &node.filter_expr {
                    self.expr(filter, Use::WORKED);
                }
                self.statements(&node.body);
                self.locals.pop();
                self.block(Vec::new(), &node.else_body);
            }
            ast::Stmt::IfCond(node) => {
                self.expr(&node.expr, Use::WORKED);
                self.block(Vec::new(), &node.true_body);
                self.block(Vec::new(), &node.false_body);
            }
            ast::Stmt::WithBlock(node) => {
                let mut locals = Vec::new();
                for (target, value) in &node.assignments {
                    self.expr(value, Use::WORKED);
                    self.assigned(target, &mut locals);
                }
                self.block(locals, &node.body);
            }
            ast::Stmt::Set(node) => {
                self.expr(&node.expr, Use::WORKED);
                self.assign(&node.target);
            }
            ast::Stmt::SetBlock(node) => {
                if let Some(filter) = &node.filter {
                    self.expr(filter, Use::WORKED);
                }
                self.block(Vec::new(), &node.body);
                self.assign(&node.target);
            }
            ast::Stmt::AutoEscape(node) => {
                self.expr(&node.enabled, Use::WORKED);
                self.block(Vec::new(), &node.body);
            }
            ast::Stmt::FilterBlock(node) => {
                self.expr(&node.filter, Use::WORKED);
                self.block(Vec::new(), &node.body);
            }
            ast::Stmt::Macro(node) => {
                self.declare(node.name);
                self.define(node);
            }
            ast::Stmt::CallBlock(node) => {
                self.call(&node.call);
                self.define(&node.macro_decl);
            }
            ast::Stmt::Do(node) => self.call(&node.call),
            ast::Stmt::Block(node) => self.alone(node.span()),
            ast::Stmt::Extends(node) => self.alone(node.span()),
            ast::Stmt::Include(node) => self.alone(node.span()),
            ast::Stmt::Import(node) => self.alone(node.span()),
            ast::Stmt::FromImport(node) => self.alone(node.span()),
        }
    }

    /// Statements about other templates.
    fn alone(&mut self, span: Span) {
        let range = self.range(span);
        self.problem(
            range,
            ExprProblemKind::Template,
            "a template stands alone: there is no other",
        );
    }

    fn define(&mut self, node: &ast::Macro<'a>) {
        node.defaults.iter().for_each(|value| self.expr(value, Use::WORKED));
        let mut locals = vec!["caller"];
        node.args.iter().for_each(|argument| self.assigned(argument, &mut locals));
        self.block(locals, &node.body);
    }

    fn assign(&mut self, target: &ast::Expr<'a>) {
        let mut names = Vec::new();
        self.assigned(target, &mut names);
        for name in names {
            self.declare(name);
        }
    }

    fn declare(&mut self, name: &'a str) {
        if let Some(scope) = self.locals.last_mut() {
            scope.push(name);
        }
    }

    /// The names that an assignment makes; none may hide a name of the place.
    fn assigned(&mut self, target: &ast::Expr<'a>, names: &mut Vec<&'a str>) {
        match target {
            ast::Expr::Var(name) => {
                if self.site.names.contains(&name.id) || name.id.starts_with(template::RESERVED) {
                    let range = self.range(name.span());
                    let message = format!("`{}` already has a meaning here", name.id);
                    self.problem(range, ExprProblemKind::Name, message);
                }
                names.push(name.id);
            }
            ast::Expr::List(list) => {
                list.items.iter().for_each(|item| self.assigned(item, names));
            }
            ast::Expr::Tuple(list) => {
                list.items.iter().for_each(|item| self.assigned(item, names));
            }
            // `namespace.member = ...`
            other => self.expr(other, Use::WORKED),
        }
    }
}

/// A name, and constant members and indexes after it.
pub(super) fn chain_of<'e>(tree: &'e ast::Expr<'_>) -> Option<(&'e str, Vec<Step>)> {
    match tree {
        ast::Expr::Var(name) => Some((name.id, Vec::new())),
        ast::Expr::GetAttr(node) => {
            let (root, mut steps) = chain_of(&node.expr)?;
            steps.push(Step::Name(node.name.into()));
            Some((root, steps))
        }
        ast::Expr::GetItem(node) => {
            let key = node.subscript_expr.as_const()?;
            let step = match key.as_str() {
                Some(name) => Step::Name(name.into()),
                None if key.is_integer() => Step::Index(key.as_i64()?),
                None => return None,
            };
            let (root, mut steps) = chain_of(&node.expr)?;
            steps.push(step);
            Some((root, steps))
        }
        _ => None,
    }
}

/// Where a dotted name begins.
pub(super) fn root_span(tree: &ast::Expr<'_>) -> Span {
    match tree {
        ast::Expr::GetAttr(node) => root_span(&node.expr),
        ast::Expr::GetItem(node) => root_span(&node.expr),
        other => other.span(),
    }
}

/// Arguments as constants; `None` where one is not.
pub(super) fn constant_arguments(arguments: &[ast::CallArg<'_>]) -> Option<Arguments> {
    let mut constants = Arguments::default();
    for argument in arguments {
        match argument {
            ast::CallArg::Pos(value) => {
                constants.positional.push(json::from_template(&value.as_const()?).ok()??);
            }
            ast::CallArg::Kwarg(name, value) => {
                let value = json::from_template(&value.as_const()?).ok()??;
                constants.named.push(((*name).to_owned(), value));
            }
            ast::CallArg::PosSplat(_) | ast::CallArg::KwargSplat(_) => return None,
        }
    }
    Some(constants)
}
