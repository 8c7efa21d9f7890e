//! `tenon fmt`: the house order over real files, and the manners of the verb.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use tenon::definition::format::{FileKind, format};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tenon(folder: &Path, args: &[&str], stdin: Option<&str>) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tenon"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.unwrap_or_default().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn what_we_ship_is_formatted() {
    let ran = tenon(root(), &["fmt", "--check", "examples", "integrations"], None);
    assert!(ran.status.success(), "{}", text(&ran.stdout));
}

/// The example of the language, which is where the house order comes from.
const EXAMPLE: &str = include_str!("fixtures/shopify.toml");

#[test]
fn the_house_order_is_that_of_the_language() {
    let made = format(EXAMPLE, FileKind::Connector).unwrap();
    assert!(made == EXAMPLE, "{}", tenon::definition::format::unified("example", EXAMPLE, &made));
}

/// The same tables in any order are one file, comments included.
#[test]
fn the_order_in_which_tables_were_written_does_not_matter() {
    let tables: Vec<&str> = EXAMPLE.trim_end().split("\n\n").collect();
    let (own, tables) = tables.split_first().unwrap();
    for turn in [1, 7, 13] {
        let mut turned = tables.to_vec();
        // Tables of a list, and those with names of the author's choice, keep their order.
        turned.sort_by_key(|table| {
            let name = table.trim_start_matches('[').split(['.', ']']).next().unwrap();
            (name.len() * turn) % 17
        });
        let shuffled = format!("{own}\n\n{}\n", turned.join("\n\n"));
        let made = format(&shuffled, FileKind::Connector).unwrap();
        assert!(made == EXAMPLE, "{}", tenon::definition::format::unified("it", EXAMPLE, &made));
    }
}

#[test]
fn documents_show_what_can_be_formatted() {
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "md") {
            continue;
        }
        for block in crate::docs::blocks(&fs::read_to_string(&path).unwrap()) {
            if block.kind == "toml" {
                let once = format(&block.text, FileKind::Connector).unwrap();
                assert_eq!(format(&once, FileKind::Connector).as_ref(), Ok(&once));
            }
        }
    }
}

#[test]
fn files_folders_and_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("verify")).unwrap();
    fs::write(at("a.toml"), "version='1.0.0'\nname='a'\n").unwrap();
    fs::write(at("b.toml"), "name    = \"b\"\nversion = \"1.0.0\"\n").unwrap();
    fs::write(at("verify/v.toml"), "[verify.v]\nsigned='{{ body }}'\nalgorithm='token'\n").unwrap();
    fs::write(at("tenon.toml"), "admin='127.0.0.1:2'\nlisten='127.0.0.1:1'\n").unwrap();

    let ran = tenon(folder.path(), &["fmt", "--check"], None);
    assert_eq!(ran.status.code(), Some(1));
    insta::assert_snapshot!("fmt_check", format!("{}{}", text(&ran.stdout), text(&ran.stderr)));
    assert!(fs::read_to_string(at("a.toml")).unwrap().starts_with("version"), "nothing is written");

    let ran = tenon(folder.path(), &["fmt"], None);
    assert_eq!(
        (ran.status.code(), text(&ran.stdout)),
        (Some(0), "a.toml\ntenon.toml\nverify/v.toml\n")
    );
    let ran = tenon(folder.path(), &["fmt", "--check", "."], None);
    assert_eq!((ran.status.code(), text(&ran.stdout)), (Some(0), ""));

    let ran = tenon(folder.path(), &["fmt", "-"], Some("name='x' # who\n"));
    assert_eq!((ran.status.code(), text(&ran.stdout)), (Some(0), "name = \"x\"  # who\n"));
    let ran = tenon(folder.path(), &["fmt", "--check", "-"], Some("name='x'\n"));
    assert_eq!(ran.status.code(), Some(1));
}

#[test]
fn what_is_no_toml_is_reported_as_check_does_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let broken = "name = \"x\nversion='1'\n";
    fs::write(folder.path().join("x.toml"), broken).unwrap();
    fs::write(folder.path().join("y.toml"), "name='y'\n").unwrap();
    let ran = tenon(folder.path(), &["fmt"], None);
    assert_eq!((ran.status.code(), text(&ran.stdout)), (Some(1), "y.toml\n"));
    let said = text(&ran.stderr);
    assert!(said.contains("error[E0101]") && said.contains("x.toml:1:"), "{said}");
    assert_eq!(fs::read_to_string(folder.path().join("x.toml")).unwrap(), broken);
}
