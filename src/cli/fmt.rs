//! `tenon fmt`: files in the house order.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Exit, Outcome, Trouble, render};
use crate::{
    definition::{
        format::{FileKind, Unformatted, format, unified},
        syntax,
    },
    diagnostic::{SourceFile, render_human},
    engine::files::project_files,
    plan::{Sources, compile_file, compile_settings},
};

/// What stands for standard input.
const STDIN: &str = "-";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys and tables in the order of the language reference, `=` in columns, a blank line between\n\
                        tables, a table of four or more keys under its own header. Comments stay where they belong;\n\
                        what a file means never changes. In folders: connectors, verify presets, tenon.toml.\n\
                        Exit code 1: a file is no TOML, or with --check, a file is not formatted."
)]
pub struct Args {
    /// Files and folders, or `-` for stdin to stdout
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Change nothing; show what would change, as a diff
    #[arg(long)]
    check: bool,
}

/// What became of one file.
enum Done {
    Same,
    Changed(String),
    /// It was left alone; why has been said.
    Left,
}

pub fn run(args: &Args) -> Outcome {
    if args.paths.iter().any(|path| path.as_os_str() == STDIN) {
        return stdin(args);
    }
    let files = project_files(&args.paths)?;
    if files.is_empty() {
        return Err(Trouble::new("no connectors here: no *.toml under the given paths"));
    }
    let (mut changed, mut left) = (0, 0);
    for path in &files {
        let trouble = |error| Trouble::new(format!("{}: {error}", path.display()));
        let text = fs::read_to_string(path).map_err(trouble)?;
        match formatted(path, &text) {
            Done::Same => {}
            Done::Left => left += 1,
            Done::Changed(new) => {
                changed += 1;
                if args.check {
                    render::text(&unified(&path.display().to_string(), &text, &new))?;
                } else {
                    fs::write(path, new).map_err(trouble)?;
                    render::text(&format!("{}\n", path.display()))?;
                }
            }
        }
    }
    render::note(&summary(files.len(), changed, left, args.check));
    Ok(if left > 0 || args.check && changed > 0 { Exit::Findings } else { Exit::Fine })
}

fn stdin(args: &Args) -> Outcome {
    if args.paths.len() > 1 {
        return Err(Trouble::new("`-` stands alone: stdin goes to stdout"));
    }
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text)?;
    match formatted(Path::new("<stdin>"), &text) {
        Done::Left => Ok(Exit::Findings),
        Done::Changed(new) if args.check => {
            render::text(&unified("<stdin>", &text, &new))?;
            Ok(Exit::Findings)
        }
        Done::Same if args.check => Ok(Exit::Fine),
        Done::Same => render::text(&text).map(|()| Exit::Fine).map_err(Trouble::from),
        Done::Changed(new) => render::text(&new).map(|()| Exit::Fine).map_err(Trouble::from),
    }
}

fn formatted(path: &Path, text: &str) -> Done {
    let is_settings = path.file_name().is_some_and(|name| name == "tenon.toml");
    let kind = if is_settings { FileKind::Settings } else { FileKind::Connector };
    match format(text, kind) {
        Ok(new) if new == text => Done::Same,
        Ok(new) => Done::Changed(new),
        Err(Unformatted::NotToml) => {
            render::note(syntax_errors(path, text, kind).trim_end());
            Done::Left
        }
        Err(Unformatted::WouldChange) => {
            let path = path.display();
            render::error(&format!(
                "{path}: left as it is, because the formatted file would mean something else; \
                 this is a bug in `tenon fmt`, please report it with the file"
            ));
            Done::Left
        }
    }
}

/// What `check` says of the text itself.
fn syntax_errors(path: &Path, text: &str, kind: FileKind) -> String {
    let file = Arc::new(SourceFile { path: path.to_owned(), text: text.to_owned() });
    let mut found = match kind {
        FileKind::Settings => compile_settings(&file).1,
        FileKind::Connector => compile_file(Path::new("."), path, &One(file)).diagnostics,
    };
    found.retain(|found| syntax::is_syntax(found.code));
    render_human(&found, render::stderr_is_styled())
}

/// The one file, and nothing that it names.
struct One(Arc<SourceFile>);

impl Sources for One {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        (path == self.0.path).then(|| Arc::clone(&self.0))
    }
}

/// "3 files: 2 formatted, 1 left alone"
fn summary(files: usize, changed: usize, left: usize, is_check: bool) -> String {
    let mut line = render::counted(files as u64, "file");
    match (changed, is_check) {
        (0, _) if left == 0 => line.push_str(": all formatted already"),
        (_, true) => line.push_str(&format!(": {changed} not formatted")),
        (_, false) => line.push_str(&format!(": {changed} formatted")),
    }
    if left > 0 {
        line.push_str(&format!(", {left} left alone"));
    }
    line
}
