//! `tenon docs`: a page a connector, made from the files themselves.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Exit, Outcome, Trouble, render, subjects::Subjects};
use crate::document::{self, Article, Block, Subject};

#[derive(Debug, clap::Args)]
#[command(after_help = "Without --out and --html the pages go to stdout, as Markdown.\n\
                        The same files give the same pages, byte for byte, and no page holds a secret's value.\n\
                        Exit code 1: a connector does not compile, or with --check, a page is not as it would be written.")]
pub struct Args {
    /// Connector files and folders
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Write NAME.md and NAME.svg for each connector, and README.md that leads to them
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write one HTML file that needs nothing besides itself
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write nothing; say which files are not as they would be written
    #[arg(long)]
    check: bool,
}

pub fn run(args: &Args) -> Outcome {
    if args.check && args.out.is_none() && args.html.is_none() {
        return Err(Trouble::new("--check compares files: say which with --out or --html"));
    }
    let subjects = Subjects::read(&args.paths)?;
    let Some(subjects) = subjects.compiled()? else { return Ok(Exit::Findings) };
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    if let Some(folder) = &args.out {
        files.extend(pages(&subjects).into_iter().map(|(name, text)| (folder.join(name), text)));
    }
    if let Some(file) = &args.html {
        files.push((file.clone(), html(&subjects)));
    }
    if args.check {
        return check(&files);
    }
    if files.is_empty() {
        let pages: Vec<String> =
            subjects.iter().map(|subject| document::markdown(&document::page(subject))).collect();
        render::text(&pages.join("\n"))?;
    }
    for (path, text) in &files {
        write(path, text)?;
        render::text(&format!("{}\n", path.display()))?;
    }
    Ok(Exit::Fine)
}

/// Each page and its picture, and the page that leads to them.
fn pages(subjects: &[Subject<'_>]) -> Vec<(String, String)> {
    let file = |subject: &Subject<'_>| format!("{}.md", subject.plan.name);
    let mut files =
        vec![("README.md".to_owned(), document::markdown(&document::index(subjects, file)))];
    for subject in subjects {
        let mut blocks = document::page(subject);
        for block in &mut blocks {
            if let Block::Picture(flow) = block {
                let name = format!("{}.svg", subject.plan.name);
                files.push((name.clone(), flow.svg_file()));
                flow.file = Some(name);
            }
        }
        files.push((file(subject), document::markdown(&blocks)));
    }
    files
}

fn html(subjects: &[Subject<'_>]) -> String {
    let articles: Vec<Article> = subjects
        .iter()
        .map(|subject| Article {
            name: subject.plan.name.to_string(),
            words: document::words_of(subject),
            blocks: document::page(subject),
        })
        .collect();
    document::html("Connectors", &articles)
}

fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    let naming = |error: std::io::Error| Trouble::new(format!("{}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(naming)?;
    }
    fs::write(path, text).map_err(naming)
}

fn check(files: &[(PathBuf, String)]) -> Outcome {
    let mut stale = 0;
    for (path, text) in files {
        if fs::read_to_string(path).is_ok_and(|known| known == *text) {
            continue;
        }
        stale += 1;
        render::text(&format!("{}\n", path.display()))?;
    }
    if stale == 0 {
        render::note(&format!(
            "{}: as they would be written",
            render::counted(files.len() as u64, "file")
        ));
        return Ok(Exit::Fine);
    }
    render::note(&format!("{} not as they would be written", render::counted(stale, "file")));
    Ok(Exit::Findings)
}
