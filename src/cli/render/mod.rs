//! The only part of the command line that prints. Data to stdout, everything else to stderr.
//!
//! What a table or a story looks like is `views.rs` (pure text, tested without a terminal); how it
//! gets out is here.

mod diff;
mod markdown;
mod page;
mod reconciled;
mod replay;
mod rollouts;
mod schema;
mod table;
mod tried;
mod views;

pub use crate::diagnostic::counted;
pub use diff::{
    as_annotations as diff_as_annotations, as_json as diff_as_json, for_people as diff_for_people,
};
pub use markdown::of as diff_as_markdown;
pub use page::page;
pub use replay::{replay_report, replays};
pub use rollouts::{flags, rollout_log, rollouts, versions};
pub use schema::schema_diff;
pub use table::Style;
pub use tried::tried;
pub use views::{
    backfills, bulk, connectors_in_detail, dead_letter, dead_list, doctor, reload, rewound, states,
    status, trace,
};

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use serde::Serialize;

/// Data, as it is, to stdout.
pub fn bytes(data: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(data)?;
    out.flush()
}

/// Data for a person, to stdout.
pub fn text(data: &str) -> io::Result<()> {
    bytes(data.as_bytes())
}

/// Data for a program, to stdout.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let mut data = serde_json::to_string_pretty(value)?;
    data.push('\n');
    text(&data)
}

/// A line about the work, to stderr. That nobody reads it is no reason to stop.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Why nothing came of it, to stderr.
pub fn error(message: &str) {
    let word = if stderr_is_styled() { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" };
    note(&format!("{word}: {message}"));
}

fn is_styled(stream: &impl io::IsTerminal) -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !is_refused
}

/// Whether stdout takes colours: a terminal, and `NO_COLOR` is not set.
pub fn stdout_is_styled() -> bool {
    is_styled(&io::stdout())
}

/// Whether stderr takes colours.
pub fn stderr_is_styled() -> bool {
    is_styled(&io::stderr())
}

/// Colours for stdout, or none.
pub fn stdout_style() -> Style {
    Style { colour: stdout_is_styled() }
}

/// Asks a yes-or-no question on the terminal; `None` where there is none to ask.
pub fn confirm(question: &str) -> Option<bool> {
    let answer = ask(&format!("{question} [y/N]"), None)?;
    Some(matches!(answer.to_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a line on the terminal; an empty one means the default. `None` where there is nobody to
/// ask.
pub fn ask(question: &str, default: Option<&str>) -> Option<String> {
    if !is_interactive() {
        return None;
    }
    let hint = default.map(|default| format!(" [{default}]")).unwrap_or_default();
    let mut err = io::stderr().lock();
    write!(err, "{question}{hint} ").and_then(|()| err.flush()).ok()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).ok()?;
    let line = line.trim();
    Some(if line.is_empty() { default.unwrap_or_default().to_owned() } else { line.to_owned() })
}

/// Whether somebody sits there to be asked.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A line on stderr that is written over as work goes on; nothing where stderr is no terminal.
pub struct Progress {
    what: &'static str,
    is_shown: bool,
    is_dirty: bool,
}

impl Progress {
    /// Counts things called `what` (plural).
    pub fn new(what: &'static str) -> Self {
        Self { what, is_shown: io::stderr().is_terminal(), is_dirty: false }
    }

    /// So many by now.
    pub fn at(&mut self, count: u64) {
        if self.is_shown {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\u{1b}[K{count} {} …", self.what).and_then(|()| err.flush());
            self.is_dirty = true;
        }
    }

    /// This share of the work is done, and so many things; `trouble` is what it waits out.
    pub fn share(&mut self, share: Option<f64>, count: u64, trouble: Option<&str>) {
        const CELLS: usize = 24;
        if !self.is_shown {
            return;
        }
        let bar = share.map_or_else(String::new, |share| {
            let full = (share * CELLS as f64) as usize;
            let (full, rest) = ("█".repeat(full), "░".repeat(CELLS - full.min(CELLS)));
            format!("{full}{rest} {:>3.0} %  ", share * 100.0)
        });
        let trouble = trouble.map(|trouble| format!("  waits: {trouble}")).unwrap_or_default();
        let line: String =
            format!("{bar}{count} {} …{trouble}", self.what).chars().take(140).collect();
        let mut err = io::stderr().lock();
        let _ = write!(err, "\r\u{1b}[K{line}").and_then(|()| err.flush());
        self.is_dirty = true;
    }

    /// Wipes the line.
    pub fn finish(self) {
        if self.is_dirty {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\u{1b}[K").and_then(|()| err.flush());
        }
    }
}
