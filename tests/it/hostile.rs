//! `check` under texts that nobody meant: arbitrary ones, real connectors with parts cut out, swapped
//! and doubled, and nesting without end. It never panics, never runs out of stack, and whatever it
//! says lies in the file that it says it about.
//!
//! `fuzz/` holds the same promise with coverage to guide it; this runs with every `cargo test`.

use std::{path::Path, sync::LazyLock};

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use tenon::{diagnostic::CODES, plan::compile_file};

use crate::support::survive::{Everywhere, check};

/// Connectors that are right, or wrong in one way: the examples of every page and the fixtures.
static CORPUS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut corpus = vec![
        include_str!("fixtures/shopify.toml").to_owned(),
        include_str!("../../examples/quickstart/shop.toml").to_owned(),
        include_str!("../../examples/tenon.toml").to_owned(),
    ];
    for info in CODES {
        let blocks = info.page.split("```toml\n").skip(1);
        corpus.extend(blocks.filter_map(|rest| rest.split("```").next()).map(str::to_owned));
    }
    corpus
});

/// All that the corpus is put together from.
static WORDS: LazyLock<Vec<String>> =
    LazyLock::new(|| CORPUS.iter().flat_map(|text| tokens(text)).collect());

/// Names, numbers, blanks and marks: what a text is put together from.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut kind_before = 0;
    for c in text.chars() {
        let kind = match c {
            c if c.is_alphanumeric() || c == '_' => 1,
            ' ' => 2,
            _ => 0,
        };
        match tokens.last_mut() {
            Some(token) if kind != 0 && kind == kind_before => token.push(c),
            _ => tokens.push(c.to_string()),
        }
        kind_before = kind;
    }
    tokens
}

/// What mutants are given: marks of TOML, of paths and of templates, and things that are nearly right.
const GRAFTS: &[&str] = &[
    "\"",
    "'''",
    "\"\"\"",
    "{{",
    "}}",
    "{%",
    "%}",
    "$",
    "[",
    "]",
    "{",
    "}",
    "|",
    "(",
    ")",
    "..",
    "=",
    "\n",
    "\r\n",
    "\t",
    "\\",
    "\u{0}",
    "ä",
    "\u{1f980}",
    "\u{feff}",
    "#",
    ",",
    "-",
    "1e999",
    "0x",
    "99999999999999999999",
    "{{ secret.X }}",
    "{{ vars[record.x] }}",
    "$['ü'][0]",
    "$..*",
    "$[?@.a]",
    "| lookup('x')",
    "| apply('line')",
    "use = \"shop.toml\"\n",
    "[lints]\n",
    "[[change]]\n",
    "ghp_",
    "sk_live_0123456789abcdef0123456789",
    "https://u:p@h/",
    "-----BEGIN PRIVATE KEY-----\n",
    "2026-11-20",
    "\"1e5d\"",
    "\"0s\"",
    "\"*/5 * * * *\"",
    "every = \"1ms\"\n",
    "rate = \"1/h\"\n",
];

#[derive(Clone, Debug)]
enum Cut {
    Delete(usize),
    Double(usize),
    Swap(usize, usize),
    Graft(usize, usize),
    Splice(usize, usize, usize),
    End(usize),
}

fn cut() -> impl Strategy<Value = Cut> {
    let at = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    prop_oneof![
        at().prop_map(Cut::Delete),
        at().prop_map(Cut::Double),
        (at(), at()).prop_map(|(a, b)| Cut::Swap(a, b)),
        (at(), at()).prop_map(|(a, b)| Cut::Graft(a, b)),
        (at(), at(), at()).prop_map(|(a, b, c)| Cut::Splice(a, b, c)),
        at().prop_map(Cut::End),
        Just(Cut::Delete(0)),
    ]
}

fn mutate(tokens: &mut Vec<String>, cut: &Cut) {
    let length = tokens.len();
    if length == 0 {
        return;
    }
    match *cut {
        Cut::Delete(at) => _ = tokens.remove(at % length),
        Cut::Double(at) => tokens.insert(at % length, tokens[at % length].clone()),
        Cut::Swap(a, b) => tokens.swap(a % length, b % length),
        Cut::Graft(at, what) => tokens.insert(at % length, GRAFTS[what % GRAFTS.len()].to_owned()),
        Cut::Splice(at, other, line) => {
            let lines: Vec<&str> = CORPUS[other % CORPUS.len()].lines().collect();
            if let Some(line) = lines.get(line % lines.len().max(1)) {
                tokens.insert(at % length, format!("\n{line}\n"));
            }
        }
        Cut::End(at) => tokens.truncate(at % (length + 1)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_text_is_survived(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn arbitrary_tokens_are_survived(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..80),
    ) {
        let text: String = picks.iter().map(|(pick, graft)| match graft {
            true => GRAFTS[pick.index(GRAFTS.len())],
            false => &WORDS[pick.index(WORDS.len())],
        }).collect();
        check(&text);
    }

    #[test]
    fn mutants_of_real_connectors_are_survived(
        seed in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(cut(), 1..12),
    ) {
        let mut tokens = tokens(&CORPUS[seed.index(CORPUS.len())]);
        for cut in &cuts {
            mutate(&mut tokens, cut);
        }
        check(&tokens.concat());
    }
}

#[test]
fn what_is_hidden_keeps_its_place() {
    let text = "name = \"a\"\n[auth.x]\ntype = \"bearer\"\ntoken = \"sümße-\u{1f980}-geheim\"\n";
    check(text);
    let compiled = compile_file(Path::new(""), Path::new("a.toml"), &Everywhere(text.to_owned()));
    for found in &compiled.diagnostics {
        assert_eq!(found.span.file.text.len(), text.len());
        assert_eq!(found.span.file.text.chars().count(), text.chars().count());
        assert!(!found.span.file.text.contains("geheim"));
    }
}

/// About `bytes` of each way of nesting: how it opens, what is inside, how it closes, and what stands
/// around it.
fn nested(bytes: usize) -> Vec<String> {
    let around = |open: &str, inner: &str, close: &str| {
        let depth = bytes / (open.len() + close.len()).max(1);
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let leaf = |leaf: String| {
        format!(
            "name = \"a\"\n[stream.x.webhook]\npath = \"/a\"\nverify = \"none\"\n[stream.x.map]\n\
             a = {leaf}\n[destination.d]\ntype = \"stdout\"\n"
        )
    };
    let template = |inner: String| leaf(format!("'{{{{ {inner} }}}}'"));
    let text = |inner: String| leaf(format!("'{inner}'"));
    let mut texts = vec![
        leaf(around("[", "1", "]")),
        leaf(around("{ a = ", "1", " }")),
        leaf(around("[{ a = ", "1", " }]")),
        format!("name = \"a\"\n[stream.x.map]\n{}\n", around("a.", "a = 1", "")),
        format!("name = \"a\"\n[stream.x.map.{}]\nb = 1\n", around("a.", "a", "")),
        format!("name = \"a\"\n[[{}]]\nb = 1\n", around("a.", "a", "")),
        around("[", "a", "]"),
        around("[a]\n", "", ""),
        around("a = 1\n", "", ""),
        around("= \n", "", ""),
        around("x\n", "", ""),
        text(around("{% if record.a %}", "x", "{% endif %}")),
        text(around("{% for a in record.a %}", "x", "{% endfor %}")),
        text(around("{% if record.a %}", "", "")),
        text(around("{{ record.a }}", "", "")),
        text(format!("{{% if 1 %}}{}{{% endif %}}", around("{% elif 1 %}", "", ""))),
        text(around("{{", "", "}}")),
        text(format!("$[?{}]", around("(", "@.a", ")"))),
        text(format!("$[?{}]", around("!", "@.a", ""))),
        text(around("$[?@", ".a", "]")),
    ];
    let pairs =
        [("(", ")"), ("[", "]"), ("{'a': ", "}"), ("a[", "]"), ("a|default(", ")"), ("a(", ")")];
    texts.extend(pairs.map(|(open, close)| template(around(open, "record", close))));
    let left = [
        "not ",
        "-",
        "- ",
        "1+",
        "1~",
        "1**",
        "1 and ",
        "1==",
        "1 in ",
        "1 if 1 else ",
        "1<",
        "1 or ",
    ];
    texts.extend(left.map(|unit| template(around(unit, "1", ""))));
    let right = [".a", "[0]", "[0:1]", "()", "|string", "|default(1)", " is defined", "(1)"];
    texts.extend(right.map(|unit| template(format!("record{}", around(unit, "", "")))));
    let steps = [".a", "..a", "[0]", "[*]", " | string", " | default(1)"];
    texts.extend(steps.map(|unit| text(format!("${}", around(unit, "", "")))));
    let tests = ["@.a&&", "@.a||"];
    texts.extend(tests.map(|unit| text(format!("$[?{}]", around(unit, "@.a", "")))));
    texts
}

#[test]
fn nesting_without_end_is_refused_or_read_never_a_crash() {
    // The stack of a thread, as tests and the threads of a load have it.
    for bytes in [300, 1_000, 60_000] {
        for text in &nested(bytes) {
            check(text);
        }
    }
}
