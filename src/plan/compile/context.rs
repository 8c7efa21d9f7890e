//! What compiling carries along: the files, what was found so far, and how expressions are compiled.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{CompiledFile, ConnectorPlan, Sources, each, hash::Hasher, sites};
use crate::plan::lint::Levels;
use crate::{
    definition::{
        collections::TreeDef,
        connector::ConnectorDef,
        kinds::{Expression, Name},
        table::{At, Finding, Given, Loc, list_of, one_of},
    },
    diagnostic::{Code, Diagnostic, Severity, SourceFile, Span, codes, nearest},
    map::{Expr, ExprProblem, ExprProblemKind, Library, Place, Site, Tree, shared_text},
};

/// One of the files that are compiled together.
struct Opened {
    source: Arc<SourceFile>,
    /// Its name for [`Place`]s.
    name: Arc<str>,
    /// First byte of each line.
    lines: Vec<u32>,
}

/// See the module.
pub(super) struct Context<'a> {
    root: &'a Path,
    sources: &'a dyn Sources,
    files: Vec<Opened>,
    findings: Vec<Finding>,
    inputs: Vec<PathBuf>,
    /// The secrets that expressions name, as they name them.
    secrets: Vec<(String, Loc)>,
    /// Those of them, by position, that only credentials name which a choice leaves out.
    forgone: std::collections::BTreeSet<usize>,
    /// The credentials that a choice by variable may choose.
    pub auths_offered: std::collections::BTreeSet<String>,
    /// The credentials that something uses.
    pub auths_chosen: std::collections::BTreeSet<String>,
    /// `[secrets]`: from the name in the file to the one that is looked up.
    pub aliases: std::collections::BTreeMap<String, String>,
    /// The variables that are declared.
    pub vars: Vec<String>,
    /// The names of `each` of the stream at hand.
    pub each_names: Vec<String>,
    /// The named maps and lookups.
    pub library: Library,
    /// The file's own `[verify.NAME]` tables; `None` where one does not compile.
    pub verifies: Vec<(String, Option<Arc<super::super::VerifyPlan>>)>,
    /// Webhook paths.
    pub routes: Vec<(String, Loc)>,
    /// What the plan is compiled from.
    pub hash: Hasher,
    /// How bad the finding of a lint is.
    pub levels: Levels,
    /// What messages must not repeat.
    hidden: Vec<String>,
}

/// A label names at most so many choices.
const MAX_LISTED: usize = 12;

/// Shorter texts are words that messages need; a credential is longer.
const SHORTEST_HIDDEN_BYTES: usize = 4;

impl<'a> Context<'a> {
    pub fn new(root: &'a Path, sources: &'a dyn Sources) -> Self {
        Self {
            root,
            sources,
            files: Vec::new(),
            findings: Vec::new(),
            inputs: Vec::new(),
            secrets: Vec::new(),
            forgone: std::collections::BTreeSet::new(),
            auths_offered: std::collections::BTreeSet::new(),
            auths_chosen: std::collections::BTreeSet::new(),
            aliases: std::collections::BTreeMap::new(),
            vars: Vec::new(),
            each_names: Vec::new(),
            library: Library::default(),
            verifies: Vec::new(),
            routes: Vec::new(),
            hash: Hasher::new(),
            levels: Levels::default(),
            hidden: Vec::new(),
        }
    }

    /// Reads a file that findings may point into.
    pub fn open(&mut self, path: &Path) -> Option<Arc<SourceFile>> {
        let source = self.read(path)?;
        let lines = std::iter::once(0)
            .chain(source.text.match_indices('\n').map(|(at, _)| at as u32 + 1))
            .collect();
        let name = Arc::from(source.path.to_string_lossy());
        self.files.push(Opened { source: Arc::clone(&source), name, lines });
        Some(source)
    }

    /// Reads a file and remembers that it was asked for.
    pub fn read(&mut self, path: &Path) -> Option<Arc<SourceFile>> {
        if !self.inputs.iter().any(|input| input == path) {
            self.inputs.push(path.to_owned());
        }
        self.sources.read(path)
    }

    /// Whether there is such a file. What was compiled does not depend on it.
    pub fn exists(&self, path: &Path) -> bool {
        self.sources.exists(path)
    }

    /// Reads a file of the project.
    pub fn read_in_root(&mut self, path: &str) -> Option<Arc<SourceFile>> {
        let path = self.root.join(path);
        self.read(&path)
    }

    /// Opens what `use` names: beside the file, then in the project.
    pub fn open_base(&mut self, path: &Path, own: &ConnectorDef) -> Option<Arc<SourceFile>> {
        let uses = own.uses.get()?;
        let named = Path::new(&uses.value.0);
        let beside = path.parent().unwrap_or(Path::new("")).join(named);
        let mut candidates = vec![beside, self.root.join(named)];
        candidates.dedup();
        if let Some(file) = candidates.iter().find_map(|candidate| self.open(candidate)) {
            return Some(file);
        }
        let tried: Vec<_> = candidates.iter().map(|path| path.to_string_lossy()).collect();
        let label = format!("looked for {}", list_of(tried.iter().map(AsRef::as_ref)));
        self.error(codes::UNKNOWN_USE, uses.at, "no such connector file", label)
            .help("the path is relative to this file's folder, or to the project's");
        None
    }

    pub fn report(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub fn report_all(&mut self, findings: impl IntoIterator<Item = Finding>) {
        self.findings.extend(findings);
    }

    /// Reports a problem; what is returned takes help and further places.
    pub fn error(
        &mut self,
        code: Code,
        at: Loc,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Reported<'_> {
        self.findings.push(Finding::new(code, at, message, label));
        Reported(self.findings.last_mut())
    }

    /// Refuses two keys that exclude each other, at the one that comes later. Whether both are there.
    pub fn exclude(&mut self, one: (&str, Option<Loc>), other: (&str, Option<Loc>)) -> bool {
        let (Some(at), Some(other_at)) = (one.1, other.1) else { return false };
        let (first, second) = if at < other_at { (at, other_at) } else { (other_at, at) };
        let message = format!("`{}` and `{}` exclude each other", one.0, other.0);
        self.error(codes::CONFLICT, second, message, "one of the two is too many")
            .related(first, "the other one");
        true
    }

    /// A condition; one that is always the same is a path or a template that was written without its
    /// marks, and refused.
    pub fn condition(
        &mut self,
        code: Code,
        (name, given): (&str, &Given<Expression>),
        site: &Site,
        path: &str,
    ) -> Option<Expr> {
        let expr = self.maybe(given, site, path)?;
        if let (Some(_), Some(given)) = (expr.as_constant(), given.get()) {
            let text = given.value.text.trim();
            let message = format!("`{name}` is always the same");
            self.error(code, given.at, message, "expected a path or a template")
                .help(format!("write {name} = \"{{{{ {text} }}}}\""));
            return None;
        }
        Some(expr)
    }

    /// Reports that `wrong` is no `noun`; `known` are those there are.
    pub fn unknown<'n>(
        &mut self,
        code: Code,
        at: Loc,
        noun: &str,
        wrong: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) -> Reported<'_> {
        let known: Vec<&str> = known.into_iter().collect();
        let label = match nearest(wrong, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!("this file defines no {noun}"),
            None if known.len() > MAX_LISTED => format!("none of the {} there are", known.len()),
            None => one_of(known),
        };
        self.error(code, at, format!("unknown {noun} `{}`", wrong.escape_debug()), label)
    }

    /// The place of something, for messages at run time.
    pub fn place(&self, at: Loc, path: &str) -> Place {
        let file = &self.files[usize::from(at.file)];
        let line = file.lines.partition_point(|start| *start <= at.start) as u32;
        Place { file: Arc::clone(&file.name), line, path: shared_text(path) }
    }

    /// Compiles a string.
    pub fn expr(&mut self, given: &At<Expression>, site: &Site, path: &str) -> Option<Expr> {
        let locate = |range| within(given, range);
        self.compile_text(&given.value.text, site, given.at, path, &locate)
    }

    /// Compiles the string of a key, if it is there.
    pub fn maybe(&mut self, given: &Given<Expression>, site: &Site, path: &str) -> Option<Expr> {
        given.get().and_then(|given| self.expr(given, site, path))
    }

    /// Compiles a text whose parts stand where `locate` says.
    pub fn compile_text(
        &mut self,
        text: &str,
        site: &Site,
        at: Loc,
        path: &str,
        locate: &dyn Fn(Range<usize>) -> Loc,
    ) -> Option<Expr> {
        let place = self.place(at, path);
        match Expr::compile(text, site, place, &self.library) {
            Ok(expr) => {
                self.check_uses(&expr, text, locate);
                Some(expr)
            }
            Err(problems) => {
                self.report_all(problems.into_iter().map(|problem| {
                    let at = locate(problem.range.clone());
                    finding_of(problem, text, at, site)
                }));
                None
            }
        }
    }

    /// Variables must be declared; secrets are noted.
    fn check_uses(&mut self, expr: &Expr, text: &str, locate: &dyn Fn(Range<usize>) -> Loc) {
        if !text.contains("vars") && !text.contains("secret") && !text.contains("each") {
            return;
        }
        for (name, member) in expr.uses() {
            match (name.as_str(), member) {
                ("vars", Some(var)) if !self.vars.contains(&var) => {
                    let at = locate(range_of(text, "vars", &var));
                    let known = self.vars.clone();
                    self.unknown(
                        codes::UNKNOWN_VAR,
                        at,
                        "variable",
                        &var,
                        known.iter().map(String::as_str),
                    )
                    .help(format!("declare it under [vars]: {var} = {{ doc = \"...\" }}"));
                }
                ("secret", Some(secret)) => {
                    let at = locate(range_of(text, "secret", &secret));
                    self.secrets.push((secret, at));
                }
                ("each", Some(name)) if !self.each_names.contains(&name) => {
                    each::unknown_name(self, locate(range_of(text, "each", &name)), &name);
                }
                ("each", None) if self.each_names.is_empty() => {
                    each::unknown_name(self, locate(0..text.len()), "");
                }
                ("secret", None) => self.report(dynamic_secret(locate(0..text.len()))),
                _ => {}
            }
        }
    }

    /// Notes a secret that something built in looks up.
    pub fn note_secret(&mut self, name: &str, at: Loc) {
        self.secrets.push((name.to_owned(), at));
    }

    /// Compiles nested leaves. `None` where one of them is wrong.
    pub fn tree(&mut self, def: &At<TreeDef>, site: &Site, path: &str) -> Option<Tree> {
        match &def.value {
            TreeDef::Leaf(leaf) => {
                let leaf = At { value: leaf.clone(), at: def.at, key: def.key };
                self.expr(&leaf, site, path).map(Tree::Leaf)
            }
            TreeDef::Constant(value) => Some(Tree::Constant(Box::new(value.clone()))),
            TreeDef::Table(fields) => self.fields(fields, site, path).map(Tree::Table),
            TreeDef::Array(items) => {
                let items: Vec<Option<Tree>> =
                    items.iter().map(|item| self.tree(item, site, path)).collect();
                items.into_iter().collect::<Option<_>>().map(Tree::Array)
            }
        }
    }

    /// Compiles the fields of a table.
    pub fn fields(
        &mut self,
        fields: &[(String, At<TreeDef>)],
        site: &Site,
        path: &str,
    ) -> Option<Vec<(String, Tree)>> {
        let compiled: Vec<Option<(String, Tree)>> = fields
            .iter()
            .map(|(name, field)| {
                let tree = self.tree(field, site, &format!("{path}.{name}"))?;
                Some((name.clone(), tree))
            })
            .collect();
        compiled.into_iter().collect()
    }

    /// Compiles the values of a table of strings.
    pub fn pairs(
        &mut self,
        pairs: &[(String, At<Expression>)],
        site: &Site,
        path: &str,
    ) -> Vec<(String, Expr)> {
        pairs
            .iter()
            .filter_map(|(name, value)| {
                let expr = self.expr(value, site, &format!("{path}.{name}"))?;
                Some((name.clone(), expr))
            })
            .collect()
    }

    /// Whether the file named by index 0 or 1 has an error.
    pub fn has_errors(&self) -> bool {
        let is_error =
            |finding: &Finding| self.levels.severity(finding.code) == Some(Severity::Error);
        self.findings.iter().any(is_error)
    }

    /// The files that findings may point into, as they may be shown.
    pub fn shown(&self) -> Vec<Arc<SourceFile>> {
        self.files.iter().map(|opened| Arc::clone(&opened.source)).collect()
    }

    /// Keeps a part of a file out of everything that is shown of it from now on. What stands there
    /// keeps its length in bytes and in characters, so that all places stay what they are.
    pub fn hide(&mut self, at: Loc) {
        let Some(opened) = self.files.get_mut(usize::from(at.file)) else { return };
        let range = at.start as usize..at.end as usize;
        let text = &opened.source.text;
        let Some(shown) = text.get(range.clone()) else { return };
        let hidden: String = shown.chars().map(disguise).collect();
        let bare = shown.trim_matches(['"', '\'']).trim();
        if bare.len() >= SHORTEST_HIDDEN_BYTES {
            self.hidden.push(bare.to_owned());
        }
        let text = format!("{}{hidden}{}", &text[..range.start], &text[range.end..]);
        opened.source = Arc::new(SourceFile { path: opened.source.path.clone(), text });
    }

    /// The secrets named so far, by the name that is looked up, each once.
    pub fn secrets_used(&self) -> Vec<(String, Loc)> {
        let mut secrets: Vec<(String, Loc)> = self
            .secrets
            .iter()
            .enumerate()
            .filter(|(noted, _)| !self.forgone.contains(noted))
            .map(|(_, (name, at))| (self.aliases.get(name).unwrap_or(name).clone(), *at))
            .collect();
        secrets.sort();
        secrets.dedup_by(|later, first| later.0 == first.0);
        secrets
    }

    /// How many secrets were noted so far.
    pub fn secrets_noted(&self) -> usize {
        self.secrets.len()
    }

    /// Says that the secrets noted in this range need not be set.
    pub fn forgo_secrets(&mut self, noted: Range<usize>) {
        self.forgone.extend(noted);
    }

    /// The secrets named so far, as the file names them.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|(name, _)| name.as_str())
    }

    /// The headlines of what was found.
    pub fn messages(&self) -> Vec<String> {
        self.findings.iter().map(|finding| finding.message.clone()).collect()
    }

    /// Every finding for a person or a program, by place.
    pub fn diagnostics(&mut self) -> Vec<Diagnostic> {
        let mut findings = std::mem::take(&mut self.findings);
        findings.sort_by(|a, b| (a.at, a.code, &a.message).cmp(&(b.at, b.code, &b.message)));
        findings.dedup();
        findings.iter().filter_map(|finding| self.diagnostic(finding)).collect()
    }

    pub fn span(&self, at: Loc) -> Span {
        let file = &self.files[usize::from(at.file).min(self.files.len() - 1)].source;
        Span { file: Arc::clone(file), range: at.start as usize..at.end as usize }
    }

    /// `None` where the finding is of a lint that is allowed here.
    fn diagnostic(&self, finding: &Finding) -> Option<Diagnostic> {
        let severity = self.levels.severity(finding.code)?;
        let told = |text: &String| {
            self.hidden.iter().fold(text.clone(), |text, hidden| text.replace(hidden, "****"))
        };
        let mut diagnostic = Diagnostic::new(
            finding.code,
            self.span(finding.at),
            told(&finding.message),
            told(&finding.label),
        );
        diagnostic.severity = severity;
        diagnostic.related =
            finding.related.iter().map(|(at, label)| (self.span(*at), told(label))).collect();
        diagnostic.help = finding.help.as_ref().map(told);
        if let Some((lint, note)) = self.levels.note(finding.code) {
            diagnostic.lint = Some(lint);
            diagnostic.note = Some(note);
        }
        Some(diagnostic)
    }

    /// What became of the file.
    pub fn finish(
        mut self,
        path: &Path,
        name: Option<At<Name>>,
        plan: Option<Arc<ConnectorPlan>>,
    ) -> CompiledFile {
        let secrets = self.secrets_used();
        let diagnostics = self.diagnostics();
        CompiledFile {
            path: path.to_owned(),
            name_span: name.as_ref().map(|name| self.span(name.at)),
            name: name.map(|name| Arc::from(name.value.0)),
            plan,
            diagnostics,
            secrets: secrets.into_iter().map(|(name, at)| (name, self.span(at))).collect(),
            routes: self.routes.iter().map(|(route, at)| (route.clone(), self.span(*at))).collect(),
            inputs: self.inputs,
            variant_of: None,
            is_variant: false,
        }
    }
}

/// A character of the same length that says nothing; quotes and line ends stay, so that the rest of
/// the text reads as before.
fn disguise(c: char) -> char {
    match (c, c.len_utf8()) {
        ('"' | '\'' | '\n' | '\r', _) => c,
        (_, 1) => '*',
        (_, 2) => '\u{d7}',
        (_, 3) => '\u{2022}',
        _ => '\u{1f784}',
    }
}

/// A problem just reported.
pub(super) struct Reported<'a>(Option<&'a mut Finding>);

impl Reported<'_> {
    /// Adds the way out.
    pub fn help(self, help: impl Into<String>) -> Self {
        let Self(Some(finding)) = self else { return self };
        finding.help = Some(help.into());
        Self(Some(finding))
    }

    /// Adds a further place.
    pub fn related(self, at: Loc, label: impl Into<String>) -> Self {
        let Self(Some(finding)) = self else { return self };
        finding.related.push((at, label.into()));
        Self(Some(finding))
    }
}

/// The place of a part of a string: exact where the string is written as it is, all of it where it
/// has escapes.
pub(in crate::plan) fn within(given: &At<Expression>, range: Range<usize>) -> Loc {
    let Some(begin) = given.value.verbatim else { return given.at };
    let length = given.value.text.len();
    let start = range.start.min(length);
    let end = range.end.clamp(start, length);
    // A caret needs something to stand under.
    let (start, end) =
        if start == end { (start.min(length.saturating_sub(1)), length) } else { (start, end) };
    Loc { file: given.at.file, start: begin + start as u32, end: begin + end as u32 }
}

/// What is not given is fine, what is given but wrong fails the whole: to be followed by `?`.
#[allow(clippy::option_option)] // Absent, wrong and right are three things.
pub(super) fn complete<T>(given: Option<Option<T>>) -> Option<Option<T>> {
    match given {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

/// Where `name` with `member` stands in a text, or all of it.
fn range_of(text: &str, name: &str, member: &str) -> Range<usize> {
    let forms = [
        format!("{name}.{member}"),
        format!("{name}['{member}']"),
        format!("{name}[\"{member}\"]"),
    ];
    forms
        .iter()
        .find_map(|form| text.find(form.as_str()).map(|at| at..at + form.len()))
        .unwrap_or(0..text.len())
}

fn dynamic_secret(at: Loc) -> Finding {
    Finding::new(codes::DYNAMIC_SECRET, at, "a secret must be named", "expected `secret.NAME`")
        .help("write {{ secret.NAME }}; an instance renames it under [secrets]")
}

fn finding_of(problem: ExprProblem, text: &str, at: Loc, site: &Site) -> Finding {
    let name = text.get(problem.range.clone()).unwrap_or_default();
    let is_of_one = matches!(name, "out" | "event") && std::ptr::eq(site.names, sites::BATCH.names);
    let code = match problem.kind {
        ExprProblemKind::Name if is_of_one => codes::ONE_OF_BATCH,
        ExprProblemKind::Path => codes::BAD_PATH,
        ExprProblemKind::Template => codes::BAD_TEMPLATE,
        ExprProblemKind::Filter => codes::BAD_FILTER,
        ExprProblemKind::Name => codes::NAME_NOT_HERE,
        ExprProblemKind::Reference => codes::UNKNOWN_TABLE,
    };
    if problem.kind == ExprProblemKind::Name && name == "secret" && site.names.contains(&name) {
        return dynamic_secret(at);
    }
    if code == codes::ONE_OF_BATCH {
        let message = format!("`{name}` is one event, and this is a request for many");
        let help = "`batch` is the list of mapped records; what the API needs of each event goes \
                    into map, and what is said of one into a rule of `on`";
        return Finding::new(code, at, message, "not in a batch").help(help);
    }
    let elsewhere = (problem.kind == ExprProblemKind::Name)
        .then(|| sites::where_name_exists(name, site))
        .flatten();
    match (elsewhere, problem.help) {
        (Some(elsewhere), _) => Finding::new(code, at, problem.message, "not here").help(elsewhere),
        (None, Some(help)) if help.starts_with("did you mean") => {
            Finding::new(code, at, problem.message, help)
        }
        (None, help) => Finding::new(code, at, problem.message, "").maybe_help(help),
    }
}
