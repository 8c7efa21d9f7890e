//! Many tests at once: files read and compiled, cases shared out to threads, results in the order
//! of the files whoever was done first.

use std::{
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::{
    case::{self, Case, Unfit},
    compare::{Failure, compare},
    rig,
    subject::Subject,
};
use crate::{
    definition::table::Loc,
    diagnostic::{Diagnostic, Severity, SourceFile},
    plan::{self, Sources, Written},
};

/// Which tests to run, and how.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only tests whose connector or name holds this text.
    pub filter: Option<String>,
    /// Threads; 0 for as many as there are processors.
    pub jobs: usize,
}

/// How a test ended.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Otherwise, in these ways.
    Failed(Vec<Failure>),
    /// It could not be run: why, and what stands at the place.
    Unfit(String, String),
}

/// One test and how it ended.
#[derive(Clone, Debug)]
pub struct Tested {
    /// The connector's name.
    pub connector: Arc<str>,
    /// The test's name.
    pub name: String,
    /// The connector file.
    pub file: Arc<SourceFile>,
    /// Where the test's name stands.
    pub at: Loc,
    /// Its place among the tests of the file, from 0.
    pub index: usize,
    /// How it ended.
    pub verdict: Verdict,
    /// Where a test that cannot be run stumbles.
    unfit_at: Loc,
}

impl Tested {
    /// Whether all was as expected.
    pub fn has_passed(&self) -> bool {
        matches!(self.verdict, Verdict::Passed)
    }

    /// Where a test that cannot be run stumbles.
    pub fn failed_at(&self) -> Loc {
        self.unfit_at
    }
}

/// What came of all tests.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of the files, and within each in the order written.
    pub tests: Vec<Tested>,
    /// What is wrong with files, so that their tests cannot be run.
    pub diagnostics: Vec<Diagnostic>,
    /// Files without a `[[test]]`.
    pub without_tests: usize,
    /// Tests that the filter left out.
    pub left_out: usize,
}

impl Report {
    /// How many tests passed.
    pub fn passed(&self) -> usize {
        self.tests.iter().filter(|test| test.has_passed()).count()
    }

    /// How many did not.
    pub fn failed(&self) -> usize {
        self.tests.len() - self.passed()
    }

    /// Whether there is nothing to complain about.
    pub fn is_fine(&self) -> bool {
        self.failed() == 0 && self.diagnostics.iter().all(|found| found.severity != Severity::Error)
    }
}

/// A test before it is run.
struct Ready {
    tested: Tested,
    case: Option<Case>,
}

/// Runs the tests of connector files. Needs no runtime, and blocks until all are done.
pub fn run(
    root: &Path,
    files: &[PathBuf],
    sources: &(dyn Sources + Sync),
    selection: &Selection,
) -> Report {
    let mut report = Report::default();
    let mut ready = Vec::new();
    for file in files {
        let written = plan::read(root, file, sources);
        gather(&written, sources, selection, &mut report, &mut ready);
    }
    report.tests = run_all(ready, selection.jobs);
    report
}

/// The tests of one file.
fn gather(
    written: &Written,
    sources: &dyn Sources,
    selection: &Selection,
    report: &mut Report,
    ready: &mut Vec<Ready>,
) {
    let tests = written.own.test.value().map_or(&[][..], Vec::as_slice);
    if tests.is_empty() {
        report.without_tests += 1;
    }
    let (Some(plan), Some(file)) = (&written.plan, written.texts.first()) else {
        let errors = written.compiled.diagnostics.iter();
        report.diagnostics.extend(errors.filter(|d| d.severity == Severity::Error).cloned());
        return;
    };
    let subject = Subject::new(plan, written.body()).map(Arc::new);
    for (index, test) in tests.iter().enumerate() {
        let name = test.value.name.value().map(|name| name.0.clone()).unwrap_or_default();
        let is_wanted = |filter: &String| name.contains(filter) || plan.name.contains(filter);
        if selection.filter.as_ref().is_some_and(|filter| !is_wanted(filter)) {
            report.left_out += 1;
            continue;
        }
        let at = test.value.name.get().map_or(test.at, |name| name.at);
        let case = match &subject {
            Ok(subject) => case::read(subject, file, test, sources),
            Err(message) => {
                Err(Unfit { at, message: message.clone(), label: "cannot be run".to_owned() })
            }
        };
        let mut tested = Tested {
            connector: Arc::clone(&plan.name),
            name,
            file: Arc::clone(file),
            at,
            index,
            verdict: Verdict::Passed,
            unfit_at: at,
        };
        let case = case.map_err(|unfit| {
            tested.unfit_at = unfit.at;
            tested.verdict = Verdict::Unfit(unfit.message, unfit.label);
        });
        ready.push(Ready { tested, case: case.ok() });
    }
}

/// Shares the cases out to threads; each takes the next one.
fn run_all(ready: Vec<Ready>, jobs: usize) -> Vec<Tested> {
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = if jobs == 0 { available() } else { jobs }.clamp(1, ready.len().max(1));
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(ready.len()));
    let work = || {
        while let Some(Ready { tested, case }) = ready.get(next.fetch_add(1, Relaxed)) {
            let mut tested = tested.clone();
            if let Some(case) = case {
                tested.verdict = judged(case);
            }
            done.lock().push(tested);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done.into_inner();
    let place = |tested: &Tested| {
        let same = |one: &Ready| one.tested.file.path == tested.file.path;
        (ready.iter().position(same), tested.index)
    };
    done.sort_by_key(place);
    done
}

/// Runs a case. A panic is a failure of this test and of no other.
fn judged(case: &Case) -> Verdict {
    let mut failures = Vec::new();
    let last = case.steps.len() - 1;
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| {
        rig::run(case, &mut |step, seen| {
            failures.extend(compare(case, step, &seen, seen.number == last));
        })
    }));
    match ran {
        Ok(Ok(())) if failures.is_empty() => Verdict::Passed,
        Ok(Ok(())) => Verdict::Failed(failures),
        Ok(Err(message)) => Verdict::Unfit(message, String::new()),
        Err(_) => Verdict::Unfit("the engine panicked".to_owned(), String::new()),
    }
}
