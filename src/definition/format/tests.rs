use proptest::prelude::*;

use super::*;

/// The formatted text, formatted once more to see that nothing moves.
fn formatted(text: &str) -> String {
    let once = format(text, FileKind::Connector).unwrap_or_else(|why| panic!("{why:?}:\n{text}"));
    let twice = format(&once, FileKind::Connector).unwrap_or_else(|why| panic!("{why:?}:\n{once}"));
    assert_eq!(once, twice, "not settled; from:\n{text}");
    once
}

fn check(text: &str, expected: &str) {
    let made = formatted(text);
    assert_eq!(made, expected, "got:\n{made}");
}

#[test]
fn keys_and_tables_stand_in_the_declared_order() {
    check(
        "version='1.0.0'\nname = \"shop\"\n[destination.out]\ntype=\"stdout\"\n\n\n[stream.b]\n\
         [stream.b.map]\nz = 1\na = 2\n[stream.b.webhook]\nverify = \"none\"\npath = '/b'\n[vars]\nx = 1\n",
        "name    = \"shop\"\nversion = \"1.0.0\"\n\n[vars]\nx = 1\n\n[stream.b]\n\n\
         [stream.b.webhook]\npath   = \"/b\"\nverify = \"none\"\n\n[stream.b.map]\nz = 1\na = 2\n\n\
         [destination.out]\ntype = \"stdout\"\n",
    );
}

#[test]
fn comments_stay_with_what_they_stand_at() {
    check(
        "# the file\n\n# its version\nversion = \"1\" # so\n\
         name = \"x\"\n#:schema a.json\n\n# after the name\n\n# of the destination\n[destination.b] # b\n\
         # of the type\ntype = \"file\"\n# path = \"p\"\n\n[stream.a] #a\nkey=\"$.id\"\n# end of a\n\n# the end\n",
        "#:schema a.json\n# the file\n\nname    = \"x\"\n# its version\nversion = \"1\"  # so\n\n\
         [stream.a]  #a\nkey = \"$.id\"\n# end of a\n\n\
         # after the name\n\n# of the destination\n[destination.b]  # b\n# of the type\ntype = \"file\"\n\
         # path = \"p\"\n\n# the end\n",
    );
}

#[test]
fn what_tools_read_comes_first() {
    check("# a\n#:schema s.json\nname = \"x\"\n", "#:schema s.json\n# a\nname = \"x\"\n");
    check(
        "[map.m]\n\n# one\n\n# two\n[source]\n#:schema x\nbase = 1\n",
        "#:schema x\n\n# one\n\n# two\n[source]\nbase = 1\n\n[map.m]\n",
    );
    check("\n\n#:schema s.json\n\n# a\nname = \"x\"\n", "#:schema s.json\n\n# a\nname = \"x\"\n");
}

#[test]
fn a_table_of_four_keys_is_a_sub_table() {
    check(
        "[stream.a.poll]\npage = { size_param = \"l\", size = 2, param = \"p\", by = \"page\" } # pages\npath = \"/a\"\n\
         query = {a=1,b=2,c=3}\n",
        "[stream.a.poll]\npath  = \"/a\"\nquery = { a = 1, b = 2, c = 3 }\n\n\
         [stream.a.poll.page]  # pages\nby         = \"page\"\nparam      = \"p\"\nsize       = 2\n\
         size_param = \"l\"\n",
    );
    // The order of a record's fields is the author's: a line each, where they stood.
    check(
        "[stream.a.map]\nx = { d = 1, c = 2, b = 3, a = { e = 1, f = 2, g = 3, 'h i' = 4 } }\nw = 1\n",
        "[stream.a.map]\nx.d       = 1\nx.c       = 2\nx.b       = 3\nx.a.e     = 1\nx.a.f     = 2\n\
         x.a.g     = 3\nx.a.\"h i\" = 4\nw         = 1\n",
    );
}

#[test]
fn lists_are_broken_where_they_were() {
    check(
        "to=['a','b',]\nredact = [\n'a', 'b'\n]\nkept = [ 1, # one\n  2 ]\n",
        "to     = [\"a\", \"b\"]\nredact = [\n    \"a\",\n    \"b\",\n]\nkept   = [ 1, # one\n  2 ]\n",
    );
}

#[test]
fn strings_lose_single_quotes_only_where_nothing_needs_escaping() {
    check(
        "\"name\" = 'plain'\nowner = 'a \"b\"'\nsummary = 'c:\\d'\ndocs = '''x'''\nto = ''\n",
        "name    = \"plain\"\nsummary = 'c:\\d'\nowner   = 'a \"b\"'\ndocs    = '''x'''\nto      = \"\"\n",
    );
}

#[test]
fn credentials_of_a_destination_stand_behind_it() {
    let text = "[auth.erp]\ntype = \"bearer\"\n\n[auth.shop]\ntype = \"bearer\"\n\n[source]\nauth = \"shop\"\n\n\
                [destination.a]\nauth = \"erp\"\n\n[destination.a.retry]\nattempts = 1\n\n[destination.b]\nauth = \"shop\"\n";
    let headers: Vec<String> =
        formatted(text).lines().filter(|l| l.starts_with('[')).map(str::to_owned).collect();
    assert_eq!(
        headers,
        [
            "[source]",
            "[auth.shop]",
            "[destination.a]",
            "[destination.a.retry]",
            "[auth.erp]",
            "[destination.b]"
        ]
    );
}

#[test]
fn line_breaks_stay_what_they_are_and_what_is_no_toml_is_left() {
    assert_eq!(formatted("name='x'\r\nto='y'\r\n"), "name = \"x\"\r\nto   = \"y\"\r\n");
    assert_eq!(formatted("\u{feff}name='x'"), "\u{feff}name = \"x\"\n");
    assert_eq!(format("name = ", FileKind::Connector), Err(Unformatted::NotToml));
    assert_eq!(formatted(""), "");
    assert_eq!(formatted("\n\n# only this\n\n\n"), "# only this\n");
}

#[test]
fn settings_have_an_order_of_their_own() {
    let made = format("[bus]\ntype = \"memory\"\n[log]\n# level = 1\n", FileKind::Settings);
    assert_eq!(made.as_deref(), Ok("[log]\n# level = 1\n\n[bus]\ntype = \"memory\"\n"));
}

#[test]
fn a_diff_can_be_applied() {
    assert_eq!(
        unified("a.toml", "a\nb\nc\nd\n", "a\nB\nc\nd\ne\n"),
        "--- a.toml\n+++ a.toml\n@@ -2,1 +2,1 @@\n-b\n+B\n@@ -4,0 +5,1 @@\n+e\n"
    );
}

/// TOML of the keys that connectors have, in no order, with comments wherever they may stand.
fn connector() -> impl Strategy<Value = String> {
    let comment = prop_oneof![
        3 => Just(String::new()),
        1 => Just("\n".to_owned()),
        1 => Just("# why\n".to_owned()),
        1 => Just("\n# one\n\n\n  # two\n".to_owned()),
        1 => Just("# one\n\n".to_owned()),
        1 => Just("#:schema x\n".to_owned()),
    ];
    let behind = prop_oneof![2 => Just(""), 1 => Just(" # so"), 1 => Just("      # over there")];
    let value = prop_oneof![
        Just("1"),
        Just("'$.a'"),
        Just("\"{{ record.x }}\""),
        Just("[ 1,2 ]"),
        Just("[\n1, # one\n 2]"),
        Just("[\n  'a',\n {b=1,  c = 2}\n]"),
        Just("{ size = 1, by = 'link' }"),
        Just("{ d = 1, c.e = 2, b = 3, a = {} , x.f = [ ]}"),
        Just("{ a = { d = 1, c = 2, b = '''x\ny''', a = 4 } }"),
        Just("\"\"\"a\n# b\"\"\""),
        Just("nan"),
        Just("2026-11-20"),
    ];
    let key = prop_oneof![
        Just("name"),
        Just("to"),
        Just("key"),
        Just("page"),
        Just("path"),
        Just("type"),
        Just("auth"),
        Just("given"),
        Just("\"a b\""),
        Just("'q'"),
        Just("x.y"),
        Just("x . 'z'"),
        Just("query"),
    ];
    let header = prop_oneof![
        Just("[source]"),
        Just("[stream.a]"),
        Just("[stream.a.poll]"),
        Just("[ stream.'b c'.map ]"),
        Just("[destination.d]"),
        Just("[auth.\"1\"]"),
        Just("[map.m]"),
        Just("[[test]]"),
        Just("[[test.step]]"),
        Just("[[change]]"),
        Just("[vars]"),
        Just("[unknown.x]"),
        Just("[stream.a.x.w]"),
        Just("[test.expect]"),
        Just("[stream]"),
    ];
    let entry = (comment.clone(), key, value, behind.clone())
        .prop_map(|(before, key, value, behind)| format!("{before}{key} = {value}{behind}\n"));
    let entries = || prop::collection::vec(entry.clone(), 0..5).prop_map(|all| all.concat());
    let section = (comment.clone(), header, behind, entries()).prop_map(
        |(before, header, behind, entries)| format!("{before}{header}{behind}\n{entries}"),
    );
    (entries(), prop::collection::vec(section, 0..8), comment)
        .prop_map(|(own, sections, end)| format!("{own}{}{end}", sections.concat()))
}

fn comments(text: &str) -> Vec<String> {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found: Vec<String> =
        text.lines().filter_map(|line| line.find('#').map(|at| words(&line[at..]))).collect();
    found.sort_unstable();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// `format` itself compares what the texts mean; here nothing may be refused for it, no comment
    /// may be lost, and nothing moves the second time.
    #[test]
    fn formatting_is_settled_and_loses_nothing(text in prop::collection::vec(connector(), 8)) {
        for text in text.iter().filter(|text| toml::from_str::<toml::Table>(text).is_ok()) {
            let once = format(text, FileKind::Connector).map_err(|why| {
                TestCaseError::fail(format!("{why:?}:\n{text}"))
            })?;
            prop_assert_eq!(comments(text), comments(&once), "{}\n=>\n{}", text, once);
            let twice = format(&once, FileKind::Connector);
            prop_assert_eq!(Ok(&once), twice.as_ref(), "from:\n{}", text);
        }
    }
}
