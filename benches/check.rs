//! What `tenon check` takes: the built program, from its start to its exit, on folders of
//! connectors. A hundred of them take less than 100 ms, and 5,000 lines are instant, in one file or in
//! fifty, right or wrong.
//!
//! `cargo bench --bench check`

use std::{
    fmt::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const RUNS: usize = 15;

/// The language's own example, 111 lines, with values that make it complete.
const EXAMPLE: &str = include_str!("../tests/it/fixtures/shopify.toml");

fn main() {
    let hundred: Vec<String> = (0..100).map(connector).collect();
    report("100 connectors", &hundred);
    let lines = |files: &[String]| files.iter().map(|file| file.lines().count()).sum::<usize>();
    let fifty: Vec<String> = (0..46).map(connector).collect();
    report(&format!("{} lines in 46 files", lines(&fifty)), &fifty);
    let large = [large(520)];
    report(&format!("{} lines in one file", lines(&large)), &large);
    let broken: Vec<String> = fifty.iter().map(|text| broken(text)).collect();
    report(&format!("{} lines, a mistake in every tenth", lines(&broken)), &broken);
}

fn connector(number: usize) -> String {
    EXAMPLE
        .replace("\"shopify\"\nversion", &format!("\"shopify-{number}\"\nversion"))
        .replace("\"/shopify/orders\"", &format!("\"/shopify/{number}\""))
        .replace("example = \"acme-store\" }", "default = \"acme-store\" }")
}

/// One connector of many streams.
fn large(streams: usize) -> String {
    let mut text = String::from(
        "name = \"large\"\nowner = \"bench\"\n[source]\nbase = \"https://a.example\"\n[schedule]\n\
         every = \"5m\"\n[destination.out]\ntype = \"stdout\"\n",
    );
    for number in 0..streams {
        let _ = write!(
            text,
            "\n[stream.s{number}]\nkey    = \"$.id\"\ndedupe = \"forever\"\n\
             [stream.s{number}.poll]\npath = \"/s{number}\"\n[stream.s{number}.map]\n\
             id = \"$.id\"\ntotal = \"$.total | decimal\"\nname = \"s:{{{{ record.name }}}}\"\n"
        );
    }
    text
}

/// A letter lost on every tenth line that sets something.
fn broken(text: &str) -> String {
    let lines = text.lines().enumerate().map(|(at, line)| match line.find(" = ") {
        Some(_) if at % 10 == 5 => format!("x{line}\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

fn report(what: &str, files: &[String]) {
    let folder = tempfile::tempdir().expect("a folder");
    for (number, text) in files.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{number}.toml")), text).expect("written");
    }
    let mut times: Vec<Duration> = (0..RUNS).map(|_| check(folder.path())).collect();
    times.sort();
    println!("{what:<42} {:>8.1?} median of {RUNS}, least {:.1?}", times[RUNS / 2], times[0]);
}

fn check(folder: &Path) -> Duration {
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_tenon"))
        .args(["check", "--format", "human", "."])
        .current_dir(folder)
        .output()
        .expect("the program runs");
    let took = began.elapsed();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    took
}
