//! The connector language's strings, maps and schemas: what goes in, what comes out.

use std::{collections::BTreeMap, sync::Arc};

use jsonpath_rust::JsonPath;
use proptest::prelude::*;
use serde_json::{Value, json};
use tenon::{
    map::{Env, EvalError, Expr, ExprProblem, Library, Lookup, Mapping, Place, Site, Tree},
    world::StaticSecrets,
};

const MAP: Site =
    Site { names: &["record", "vars", "event"], root: Some("record"), lenient: false };
const WHEN: Site = Site { names: &["record"], root: Some("record"), lenient: true };
const POLL: Site = Site { names: &["vars", "page", "secret"], root: None, lenient: false };
const NEXT: Site = Site { names: &["response"], root: Some("response"), lenient: false };

fn place(path: &str) -> Place {
    Place { file: "shop.toml".into(), line: 7, path: path.into() }
}

fn library() -> Library {
    let lookup = Lookup {
        entries: BTreeMap::from([
            ("paid".to_owned(), json!("settled")),
            ("1".to_owned(), json!("one")),
        ]),
    };
    let mut library = Library {
        lookups: BTreeMap::from([("status".to_owned(), Arc::new(lookup))]),
        ..Library::default()
    };
    let leaf = |name: &str, text: &str, library: &Library| {
        let expr = Expr::compile(text, &MAP, place(&format!("map.line.{name}")), library);
        (name.to_owned(), Tree::Leaf(expr.unwrap()))
    };
    let line = Tree::Table(vec![
        leaf("sku", "$.sku", &library),
        leaf("price", "$.price | decimal(2)", &library),
        leaf("note", "{{ record.note | optional }}", &library),
        leaf("label", "{{ record.sku }}@{{ vars.shop }}", &library),
        leaf("big", "{{ record.price | float > 2 }}", &library),
    ]);
    library.maps.insert("line".to_owned(), Arc::new(line));
    library
}

fn order() -> Value {
    json!({
        "id": 1001, "name": "#1001", "total": "129.90", "tax": 0.1, "test": false,
        "created_at": "2026-11-20T11:00:00+01:00", "status": "paid", "note": null,
        "customer": { "email": "a@b.example", "first": "Ada", "Tags": ["x", "y"] },
        "odd name": 1, "internal_a": 1, "empty": [],
        "lines": [{ "sku": "A", "price": "1.5" }, { "sku": "B", "price": 2.25, "note": "n" }],
        "rows": [["id", "name"], [1, "a"], [2, "b"]],
    })
}

fn env(record: Value) -> Env {
    Env::new()
        .with("record", Arc::new(record))
        .with("vars", Arc::new(json!({ "shop": "acme", "n": 3, "tz": "Europe/Berlin" })))
        .with("event", Arc::new(json!({ "id": "e1" })))
}

fn compile(text: &str, site: &Site) -> Result<Expr, Vec<ExprProblem>> {
    Expr::compile(text, site, place("stream.orders.map.x"), &library())
}

fn problems(text: &str, site: &Site) -> String {
    let Err(problems) = compile(text, site) else {
        return "no problem".to_owned();
    };
    let line = |problem: &ExprProblem| {
        let help = problem.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        let ExprProblem { range, kind, message, .. } = problem;
        format!("{kind:?} `{}`: {message}{help}", &text[range.clone()])
    };
    problems.iter().map(line).collect::<Vec<_>>().join("; ")
}

fn eval(text: &str, site: &Site, env: &Env) -> Result<Option<Value>, EvalError> {
    let expr = compile(text, site).unwrap_or_else(|_| panic!("{text}: {}", problems(text, site)));
    expr.eval(env)
}

/// One line a case: what a string gives for the order above, or the error it gives.
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let found = match eval(text, &MAP, &env(order())) {
            Ok(Some(value)) => value.to_string(),
            Ok(None) => "-".to_owned(),
            Err(error) => error.message,
        };
        assert_eq!(found, *expected, "{text}");
    }
}

#[test]
fn the_three_kinds_of_string() {
    check(&[
        ("478", r#""478""#),
        ("", r#""""#),
        ("a $.b", r#""a $.b""#),
        ("$.id", "1001"),
        ("$", &order().to_string()),
        ("{{ record.id }}", "1001"),
        ("{{ '$5' }}", r#""$5""#),
        ("{{ 5 }}", "5"),
        ("{{ 5 }} or {{ none }}", r#""5 or null""#),
        ("shopify:{{ record.id }}", r#""shopify:1001""#),
        ("{{ record.customer }}", r#"{"email":"a@b.example","first":"Ada","Tags":["x","y"]}"#),
        ("{{ record.customer.Tags }}!", r#""[\"x\",\"y\"]!""#),
        ("{{ record.test }} {{ record.note }} {{ record.tax }}", r#""false null 0.1""#),
        ("{{ record['odd name'] }}{{ record.lines[-1].sku }}", r#""1B""#),
        ("{% if record.id > 5 %}big{% else %}small{% endif %}\n", "\"big\\n\""),
        ("{% for line in record.lines %}{{ line.sku }},{% endfor %}", r#""A,B,""#),
        ("{% raw %}{{ x }}{% endraw %}", r#""{{ x }}""#),
        ("{# nothing #}{{ record.id }}", "1001"),
    ]);
}

#[test]
fn paths() {
    check(&[
        ("{{ (record.customer).first ~ (record)['odd name'] }}", "\"Ada1\""),
        (
            "{{ record['odd name'] ~ record['no such'] }}",
            "`{{ record['odd name'] ~ record['no such'] }}`: found nothing at `record['no such']`",
        ),
        ("$.customer.email", r#""a@b.example""#),
        ("$['odd name']", "1"),
        ("$.lines[-1].sku", r#""B""#),
        ("$.lines[*].sku", r#"["A","B"]"#),
        ("$.customer.*", r#"["a@b.example","Ada",["x","y"]]"#),
        ("$.lines[?@.sku == 'B'].price", "[2.25]"),
        ("$.lines[?@.sku == 'a|b'] | first | optional", "-"),
        ("$..sku", r#"["A","B"]"#),
        ("$.lines[0:1].sku", r#"["A"]"#),
        ("$.empty[*]", "[]"),
        ("$.note", "null"),
        (
            "$.customer.phone",
            "`$.customer.phone`: found nothing: what there is ends at `$.customer`",
        ),
        ("$.nope[*].x", "`$.nope[*].x`: found nothing: what there is ends at `$`"),
        ("$.note[*]", "`$.note[*]`: found nothing: what there is ends at `$.note`"),
    ]);
}

#[test]
fn what_is_missing() {
    check(&[
        ("$.nope | optional", "-"),
        ("$.nope | decimal | optional", "-"),
        ("$.note | optional", "null"),
        ("$.note | decimal | optional", "null"),
        ("$.note | filled | optional", "-"),
        ("$.note | decimal | filled | optional", "-"),
        ("$.empty | filled | default('x')", r#""x""#),
        ("$.lines[?@.sku == 'C'] | filled | optional", "-"),
        ("{{ '  ' | filled | optional }}", "-"),
        ("{{ (record.note | filled) is defined }}", "false"),
        ("$.customer.email | filled | upper | optional", r#""A@B.EXAMPLE""#),
        ("$.note | filled", "`$.note | filled`: found nothing: what there is ends at `$.note`"),
        ("$.nope | default('x')", r#""x""#),
        ("$.note | default('x')", r#""x""#),
        ("$.nope.deeper | decimal | default('0')", r#""0""#),
        ("$.note | decimal | default('0') | integer", "0"),
        ("$.note | decimal", "`$.note | decimal`: expected digits, found null"),
        ("$.nope[*] | default([])", "[]"),
        ("{{ record.nope }}", "`{{ record.nope }}`: found nothing at `record.nope`"),
        ("{{ record.nope.deeper | default('x') }}", r#""x""#),
        (
            "{{ record.nope.deeper }}!",
            "`{{ record.nope.deeper }}!`: found nothing at `record.nope.deeper`",
        ),
        ("{{ record.status | default(record.nope) }}", r#""paid""#),
        ("{{ record.nope | default(record.status) }}", r#""paid""#),
        ("{{ record.nope | default(record.no) | default(record.status) }}", r#""paid""#),
        ("{{ record.nope | default(record.no) | optional }}", "-"),
        ("{{ record.nope | optional }}", "-"),
        ("{{ record.customer.first }} {{ record.customer.last | optional }}", "-"),
        ("{{ (record.nope.deeper | default(1)) + 1 }}", "2"),
        ("{{ record.nope | optional | upper }}", "-"),
        (
            "{{ (record.nope ~ 'x') | optional | upper }}",
            "`{{ (record.nope ~ 'x') | optional | upper }}`: found nothing at `record.nope`",
        ),
        ("{{ record.nope + 1 }}", "`{{ record.nope + 1 }}`: found nothing at `record.nope`"),
        ("{{ record.nope is defined }}", "false"),
        ("{{ record.nope.deeper is defined or record.id is defined }}", "true"),
        (
            "{% if record.nope %}x{% endif %}",
            "`{% if record.nope %}x{% endif %}`: found nothing at `record.nope`",
        ),
    ]);
}

#[test]
fn conversions() {
    check(&[
        ("$.total | decimal", r#""129.90""#),
        ("$.tax | decimal(2)", r#""0.10""#),
        ("{{ record.tax | decimal(scale=3) }}", r#""0.100""#),
        ("$.customer | decimal", "`$.customer | decimal`: expected digits, found an object"),
        ("$.id | string", r#""1001""#),
        (
            "$.lines | string",
            "`$.lines | string`: expected a text, number or boolean, found an array",
        ),
        ("$.total | number", "129.9"),
        ("$.name | number", "`$.name | number`: expected a number, found a string"),
        ("$.tax | integer", "`$.tax | integer`: expected an integer, found a number"),
        ("{{ '12.00' | integer }}", "12"),
        ("{{ '0012' | integer }}", "12"),
        ("{{ '9223372036854775808' | integer }}", "9223372036854775808"),
        ("{{ 'yes' | boolean }}{{ 0 | boolean }}", r#""truefalse""#),
        ("$.id | boolean", "`$.id | boolean`: expected true or false, found a number"),
        ("$.created_at | timestamp", r#""2026-11-20T10:00:00Z""#),
        ("$.created_at | date", r#""2026-11-20""#),
        ("$.created_at | strftime('%d.%m.%Y %H:%M', tz='Europe/Berlin')", r#""20.11.2026 11:00""#),
        (
            "$.customer.email | timestamp",
            "`$.customer.email | timestamp`: expected a time (RFC 3339, RFC 2822 or a number), found a string",
        ),
        ("$.customer.Tags | json", r#""[\"x\",\"y\"]""#),
        ("$.status | lookup('status')", r#""settled""#),
        ("{{ 1 | lookup('status') }}", r#""one""#),
        ("$.name | lookup('status', else='open')", r#""open""#),
        ("$.name | lookup('status', else=none)", "null"),
        (
            "$.name | lookup('status')",
            "`$.name | lookup('status')`: a string that the lookup does not list, and it has no `else`",
        ),
    ]);
}

#[test]
fn texts_arrays_and_objects() {
    check(&[
        ("$.customer.first | upper", r#""ADA""#),
        ("$.customer.first | lower | trim('a')", r#""d""#),
        ("$.customer.email | split('@') | last", r#""b.example""#),
        ("$.customer.Tags | join('+')", r#""x+y""#),
        ("$.lines[*].sku | join", r#""AB""#),
        (
            "$.lines | join",
            "`$.lines | join`: item 0: expected a text, number or boolean, found an object",
        ),
        ("$.lines[*].price | sum", r#""3.75""#),
        ("$.lines[*].sku | first", r#""A""#),
        ("$.empty | first", "`$.empty | first`: found nothing: what there is ends at `$.empty`"),
        ("$.empty | first | default(0)", "0"),
        (
            "$.customer | lower_keys | pick('tags', 'e*')",
            r#"{"email":"a@b.example","tags":["x","y"]}"#,
        ),
        ("$.lines | omit('price')", r#"[{"sku":"A"},{"sku":"B","note":"n"}]"#),
        ("$.lines[0] | entries | last", r#"{"key":"price","value":"1.5"}"#),
        ("$.rows | zip_object", r#"[{"id":1,"name":"a"},{"id":2,"name":"b"}]"#),
        ("$.rows[1] | zip_object('a', 'b')", r#"{"a":1,"b":"a"}"#),
        (
            "{{ 'abc' | sha256 }}",
            r#""ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad""#,
        ),
        ("{{ 'a:b' | base64 }}", r#""YTpi""#),
        ("{{ 'a b/ü' | urlencode }}", r#""a%20b%2F%C3%BC""#),
        ("$.lines[0] | urlencode", r#""sku=A&price=1.5""#),
    ]);
}

#[test]
fn named_maps() {
    check(&[
        (
            "$.lines[*] | apply('line')",
            r#"[{"sku":"A","price":"1.50","label":"A@acme","big":false},{"sku":"B","price":"2.25","note":"n","label":"B@acme","big":true}]"#,
        ),
        (
            "$.lines[0] | apply('line')",
            r#"{"sku":"A","price":"1.50","label":"A@acme","big":false}"#,
        ),
        ("$.empty | apply('line')", "[]"),
        (
            "$.id | apply('line')",
            "`$.id | apply('line')`: expected an array or an object, found a number",
        ),
        ("{{ (record.lines | apply('line'))[1].price }}", r#""2.25""#),
        ("$.rows[*] | apply('line')", "item 0: `$.sku`: found nothing: what there is ends at `$`"),
    ]);
    let error = eval(
        "{{ record.lines | reverse | apply('line') }}",
        &MAP,
        &env(json!({
            "lines": [{ "sku": "A", "price": "x" }, { "sku": "B", "price": 1 }],
        })),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "map.line.price: item 1: `$.price | decimal(2)`: expected digits, found a string (shop.toml:7)"
    );
}

#[test]
fn the_engine_s_own_filters_and_operators() {
    check(&[
        ("$.tax | round(1) | string", r#""0.1""#),
        ("$.name | replace('#', 'n')", r#""n1001""#),
        ("$.customer.Tags | length", "2"),
        ("$.nope | replace('a', 'b') | optional", "-"),
        ("$.nope | default(vars.n)", "3"),
        ("$.created_at | strftime('%H', tz=vars.tz)", r#""11""#),
        ("$.lines | map(attribute='sku') | join('-')", r#""A-B""#),
        ("{{ record.id + vars.n }}", "1004"),
        ("{{ record.id if record.test else 'live' }}", r#""live""#),
        ("{{ record.customer.Tags + ['z'] }}", r#"["x","y","z"]"#),
        ("{{ {'a': record.id, 'b': [true, none]} }}", r#"{"a":1001,"b":[true,null]}"#),
        (
            "{{ record.lines | selectattr('note') | list }}",
            r#"[{"sku":"B","price":2.25,"note":"n"}]"#,
        ),
        ("{{ 'paid' in record.status }}", "true"),
        ("{{ record.id / 0 }}", "`{{ record.id / 0 }}`: invalid operation"),
        (
            "{{ record.name + 1 }}",
            "`{{ record.name + 1 }}`: tried to use + operator on unsupported types string and number",
        ),
        ("{{ record.customer | abs }}", "`{{ record.customer | abs }}`: invalid operation"),
        (
            "{{ record.status * 500000 }}",
            "`{{ record.status * 500000 }}`: gives more than 1048576 bytes",
        ),
        (
            "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}",
            "`{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}`: takes more than 100000 steps",
        ),
        (
            "{% for x in range(9000) %}{{ 'x' * 1000 }}{% endfor %}",
            "`{% for x in range(9000) %}{{ 'x' * 1000 }}{% endfor %}`: gives more than 1048576 bytes",
        ),
    ]);
}

#[test]
fn problems_are_found_at_load() {
    for (text, expected) in [
        (
            "$.a.",
            "Path `.`: not a JSONPath (RFC 9535) (a path looks like `$.customer.email`, `$.lines[*]` or `$['odd name']`; a text that begins with `$` is written {{ '$5' }})",
        ),
        ("$.a[?@.b[?@.c]]", "Path `$.a[?@.b[?@.c]]`: a filter within a filter is not supported"),
        ("$.a | decimel", "Filter `decimel`: unknown filter `decimel` (did you mean `decimal`?)"),
        ("$.a | frobnicate | decimal(-1)", "Filter `frobnicate`: unknown filter `frobnicate`"),
        ("$.a | decimal(99)", "Filter `decimal`: a decimal's scale is a number from 0 to 60"),
        ("$.a | decimal(scael=2)", "Filter `decimal`: `decimal` takes no argument `scael`"),
        ("$.a | upper(1)", "Filter `upper`: `upper` got too many arguments"),
        ("$.a | timestamp(tz='Mars')", "Filter `timestamp`: there is no time zone `Mars`"),
        ("$.a | default", "Filter `default`: `default` needs a value"),
        (
            "$.a | lookup('statis')",
            "Reference `lookup`: there is no `[lookup.statis]` (did you mean `status`?)",
        ),
        ("$.a | apply('x_y_z')", "Reference `apply`: there is no `[map.x_y_z]` (there are line)"),
        (
            "$.a | decimal + 1",
            "Filter ` decimal + 1`: only filters stand after a path (anything else is a template: {{ record.a + 1 }})",
        ),
        ("$.a | default(vrs.x)", "Name `vrs`: there is no `vrs` here (did you mean `vars`?)"),
        (
            "{{ recrod.id }}-{{ out.x | nope }}",
            "Name `recrod`: there is no `recrod` here (did you mean `record`?); Name `out`: there is no `out` here (here stand record, vars, event); Filter `nope`: unknown filter `nope`",
        ),
        ("{{ record.id", "Template `id`: unexpected end of input, expected end of variable block"),
        ("{{ record.id | }}", "Template `|`: unexpected end of input, expected identifier"),
        (
            "{{ record.get('a') }}",
            "Filter `record.get`: `get` is not a function: values have no methods (filters do their work: `x | default(0)`)",
        ),
        (
            "{{ upper(record.a) }}",
            "Filter `upper`: unknown function `upper` (a filter is written `x | upper`)",
        ),
        ("{{ debug() }}", "Filter `debug`: unknown function `debug`"),
        (
            "{{ record.a is definde }}",
            "Filter `definde`: unknown test `definde` (did you mean `defined`?)",
        ),
        ("{% set record = 1 %}", "Name `record`: `record` already has a meaning here"),
        ("{% include 'x' %}", "Template `include 'x'`: a template stands alone: there is no other"),
        (
            "{% for x in recrods %}{{ x.a | dcimal }}{{ y }}{% endfor %}",
            "Name `recrods`: there is no `recrods` here (did you mean `record`?); Filter `dcimal`: unknown filter `dcimal` (did you mean `decimal`?); Name `y`: there is no `y` here (here stand record, vars, event)",
        ),
        (
            "{{ (record.a | optional) ~ 1 }}",
            "Filter `optional`: `optional` leaves out a whole entry: it stands at the end of `{{ }}`",
        ),
        (
            "{{ record.a if record.b }}",
            "Template `record.a`: an `if` needs an `else`: what is it otherwise? (write `x if y else none`, or `x | optional`)",
        ),
        (
            "{{ secret.X }}",
            "Name `secret`: there is no `secret` here (here stand record, vars, event)",
        ),
    ] {
        assert_eq!(problems(text, &MAP), expected, "{text}");
    }
    assert_eq!(
        problems("$.a", &POLL),
        "Path `$.a`: there is no document here that a path could read (a text that begins with `$` is written {{ '$5' }})"
    );
    let hidden = "a secret is named as it stands: which ones are needed is known at load (write `secret.NAME`)";
    assert_eq!(problems("{{ secret }}", &POLL), format!("Name `secret`: {hidden}"));
    assert_eq!(problems("{{ secret[vars.x] }}", &POLL), format!("Name `secret`: {hidden}"));
}

#[test]
fn what_an_expression_says_about_itself() {
    let expr = |text| compile(text, &MAP).unwrap();
    assert_eq!(expr("$.a.b | timestamp").ends_in(), Some("timestamp"));
    assert_eq!(expr("{{ record.a | upper | integer }}").ends_in(), Some("integer"));
    assert_eq!(expr("{{ (record.a + 1) | integer }}").ends_in(), Some("integer"));
    assert_eq!(expr("v{{ record.a | integer }}").ends_in(), None);
    assert_eq!(expr("$.a").ends_in(), None);
    assert_eq!(expr("$.a.b[*].c").path_prefix(), Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(expr("$.a[?@.b]").path_prefix(), Some(vec!["a".to_owned()]));
    assert_eq!(expr("{{ record.a }}").path_prefix(), None);
    assert_eq!(expr("$.a[0]").is_singular(), Some(true));
    assert_eq!(expr("$.a[*]").is_singular(), Some(false));
    assert!(expr("$.a[*] | default([])").ends_in_empty_list());
    assert!(!expr("$.a[*] | default([1])").ends_in_empty_list());
    assert_eq!(expr("plain").as_constant(), Some(&json!("plain")));
    assert_eq!(expr("$.a").as_constant(), None);
    let uses = |text| -> Vec<String> {
        let uses = expr(text).uses();
        uses.into_iter()
            .map(|(root, member)| format!("{root}.{}", member.unwrap_or_default()))
            .collect()
    };
    assert_eq!(
        uses("{{ vars.shop }}/{{ record.a.b }}/{{ record }}"),
        ["record.", "record.a", "vars.shop"]
    );
    assert_eq!(uses("$.a.b | default(vars.n)"), ["record.a", "vars.n"]);
    assert_eq!(uses("{% if event.id %}{{ vars['shop'] }}{% endif %}"), ["event.id", "vars.shop"]);
}

#[test]
fn conditions_take_what_is_missing_for_null() {
    for (text, expected) in [
        ("{{ record.test == false }}", true),
        ("{{ record.nope }}", false),
        ("$.nope", false),
        ("$.nope.deeper", false),
        ("{{ record.nope.deeper == none }}", true),
        ("{{ record.nope.deeper is none }}", true),
        ("{{ record.nope is defined }}", false),
        ("{{ record.id is defined and not record.nope }}", true),
        ("{{ record.nope | default('x') == 'x' }}", true),
        ("$.lines[*]", true),
        ("$.empty", false),
        ("{{ record.note }}", false),
        ("{{ record.nope.deeper or record.id > 1000 }}", true),
        ("{% if record.nope %}x{% endif %}", false),
        ("no", true),
    ] {
        let found = compile(text, &WHEN).unwrap().test(&env(order()));
        assert_eq!(found, Ok(expected), "{text}");
    }
}

#[test]
fn a_page_token_that_is_not_there_is_left_out() {
    let expr = compile("{{ page.token }}", &POLL).unwrap();
    assert_eq!(expr.eval(&Env::new().with("page", Arc::new(json!({})))), Ok(None));
    assert_eq!(expr.eval(&Env::new().with("page", Arc::new(json!({ "token": null })))), Ok(None));
    assert_eq!(expr.eval(&Env::new()), Ok(None));
    let page = minijinja::context! { token => "t", number => 2 };
    assert_eq!(expr.eval(&Env::new().with_dynamic("page", page.clone())), Ok(Some(json!("t"))));
    let more = compile("t={{ page.token }}&n={{ page.number + 1 }}", &POLL).unwrap();
    assert_eq!(more.text(&Env::new().with_dynamic("page", page)), Ok(Some("t=t&n=3".to_owned())));
    assert!(more.eval(&Env::new()).is_err());
}

#[test]
fn a_response_s_document_is_its_body() {
    let response = json!({ "status": 200, "body": { "next": "t", "orders": [1, 2] } });
    let env = Env::new().with("response", Arc::new(response));
    let eval = |text| compile(text, &NEXT).unwrap().eval(&env).unwrap();
    assert_eq!(eval("$.next"), Some(json!("t")));
    assert_eq!(eval("{{ response.status }}"), Some(json!(200)));
    assert_eq!(eval("{{ response.body.next }}"), Some(json!("t")));
}

#[test]
fn records_are_selected() {
    let document = json!({ "orders": [{ "id": 1 }, { "id": 2 }], "meta": { "n": 2 }, "none": [] });
    let document = tenon::event::Record::from_value(document);
    for (text, expected) in [
        ("$.orders[*]", Ok(vec![json!({ "id": 1 }), json!({ "id": 2 })])),
        ("$.orders", Ok(vec![json!({ "id": 1 }), json!({ "id": 2 })])),
        ("$.meta", Ok(vec![json!({ "n": 2 })])),
        ("$.none[*]", Ok(vec![])),
        ("$.data[*] | default([])", Ok(vec![])),
        ("$.data[*]", Err("`$.data[*]`: found nothing: what there is ends at `$`".to_owned())),
        ("$.orders[?@.id > 1]", Ok(vec![json!({ "id": 2 })])),
    ] {
        let found = compile(text, &NEXT).unwrap().select(&document, &Env::new());
        let found = found.map(|all| all.iter().map(|one| one.value().as_ref().clone()).collect());
        assert_eq!(found.map_err(|error| error.message), expected, "{text}");
    }
}

#[test]
fn secrets_are_looked_up_at_use_and_nowhere_else() {
    let secrets = Arc::new(StaticSecrets::new([("ACME_TOKEN", "s3cr3t"), ("B", "b")]));
    let aliases = BTreeMap::from([("TOKEN".to_owned(), "ACME_TOKEN".to_owned())]);
    let env = Env::new()
        .with("vars", Arc::new(json!({ "user": "ada" })))
        .with_secrets(secrets, Arc::new(aliases));
    let expr = |text| compile(text, &POLL).unwrap();
    for (text, expected) in [
        ("{{ secret.TOKEN }}", "s3cr3t"),
        ("Bearer {{ secret.TOKEN }}", "Bearer s3cr3t"),
        ("{{ (vars.user ~ ':' ~ secret.B) | base64 }}", "YWRhOmI="),
        ("{{ secret.B | upper }}", "B"),
        ("{% if secret.B %}{{ secret.TOKEN }}{% endif %}", "s3cr3t"),
        ("plain", "plain"),
        ("{{ vars.user }}", "ada"),
    ] {
        let found = expr(text).secret(&env).unwrap();
        assert_eq!(found.expose(), expected);
        assert_eq!(format!("{found:?}"), "[redacted]");
        assert_eq!(expr(text).needs_secret(), text.contains("secret."));
    }
    let token = expr("a{{ secret.TOKEN }}");
    assert_eq!(token.uses(), [("secret".to_owned(), Some("TOKEN".to_owned()))]);
    for error in [token.eval(&env).unwrap_err(), token.text(&env).unwrap_err()] {
        assert_eq!(error.message, "`a{{ secret.TOKEN }}`: a secret may not be used here");
    }
    let error = expr("{{ secret.UNSET }}").secret(&env).unwrap_err();
    assert_eq!(error.message, "`{{ secret.UNSET }}`: the secret UNSET is not set");
    let error = expr("{{ secret.TOKEN | integer }}").secret(&env).unwrap_err();
    assert_eq!(
        error.message,
        "`{{ secret.TOKEN | integer }}`: expected an integer, found a string"
    );
}

#[test]
fn texts_are_strings_numbers_and_booleans() {
    let text = |text: &str| compile(text, &MAP).unwrap().text(&env(order()));
    assert_eq!(text("$.id"), Ok(Some("1001".to_owned())));
    assert_eq!(text("{{ record.test }}"), Ok(Some("false".to_owned())));
    assert_eq!(text("x"), Ok(Some("x".to_owned())));
    assert_eq!(text("$.nope | optional"), Ok(None));
    let error = text("$.note").unwrap_err();
    assert_eq!(error.message, "`$.note`: expected a text, number or boolean, found null");
    assert!(text("$.lines").is_err());
}

#[test]
fn a_mapping_merges_the_rest_first() {
    let leaf = |text: &str| Tree::Leaf(compile(text, &MAP).unwrap());
    let fields = Tree::Table(vec![
        ("id".to_owned(), leaf("shop:{{ record.id }}")),
        (
            "customer".to_owned(),
            Tree::Table(vec![
                ("email".to_owned(), leaf("{{ record.customer.email | upper }}")),
                ("phone".to_owned(), leaf("$.customer.phone | optional")),
            ]),
        ),
        ("left".to_owned(), Tree::Table(vec![("out".to_owned(), leaf("$.nope | optional"))])),
        (
            "tags".to_owned(),
            Tree::Array(vec![leaf("$.status"), leaf("$.nope | optional"), leaf("x")]),
        ),
        ("version".to_owned(), Tree::Constant(Box::new(json!(2)))),
    ]);
    let leaves: Vec<_> = fields.leaves().into_iter().map(|(path, _)| path).collect();
    assert_eq!(
        leaves,
        ["id", "customer.email", "customer.phone", "left.out", "tags[0]", "tags[1]", "tags[2]"]
    );
    let rest = compile("$ | pick('customer', 'tax')", &MAP).unwrap();
    let mapping = Mapping { rest: Some(rest), fields };
    assert_eq!(
        mapping.apply(&env(order())).unwrap().value().to_string(),
        r#"{"tax":0.1,"customer":{"email":"A@B.EXAMPLE","first":"Ada","Tags":["x","y"]},"id":"shop:1001","tags":["paid","x"],"version":2}"#
    );
    let mapping = Mapping {
        rest: None,
        fields: Tree::Table(vec![("total".to_owned(), leaf("$.customer | decimal"))]),
    };
    assert_eq!(
        mapping.apply(&env(order())).unwrap_err().to_string(),
        "stream.orders.map.x: `$.customer | decimal`: expected digits, found an object (shop.toml:7)"
    );
}

/// Arbitrary JSON with few names, so that paths meet them.
fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ab1.]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abc]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn steps() -> impl Strategy<Value = String> {
    let step = prop_oneof![
        "[abc]".prop_map(|name| format!(".{name}")),
        "[abc]".prop_map(|name| format!("['{name}']")),
        (-3_i64..3).prop_map(|index| format!("[{index}]")),
        Just("[*]".to_owned()),
        Just(".*".to_owned()),
    ];
    prop::collection::vec(step, 0..4).prop_map(|steps| format!("${}", steps.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lowered_paths_find_what_the_library_finds(document in documents(), path in steps()) {
        let expected: Vec<Value> = document.query(&path).unwrap().into_iter().cloned().collect();
        let expr = compile(&path, &MAP).unwrap();
        match expr.eval(&env(document)) {
            Ok(Some(found)) if expr.is_singular() == Some(true) => prop_assert_eq!(vec![found], expected),
            Ok(found) => prop_assert_eq!(found, Some(Value::from(expected))),
            Err(_) => prop_assert_eq!(expected, Vec::<Value>::new()),
        }
    }

    #[test]
    fn lowered_names_give_what_the_engine_gives(document in documents(), path in "(\\.[abc]|\\[[0-2]\\]|\\['a'\\]|\\[-1\\]){0,3}") {
        // Parentheses around a name and `~` keep the engine busy; a bare name is walked natively.
        let env = env(document);
        let lowered = eval(&format!("<{{{{ record{path} }}}}>"), &MAP, &env);
        let engine = eval(&format!("{{{{ '<' ~ record{path} ~ '>' }}}}"), &MAP, &env);
        let same = |one: Result<Option<Value>, EvalError>| {
            one.map_err(|error| error.message.split_once("`: ").map(|(_, rest)| rest.to_owned()))
        };
        // The engine prints truth and null its own way where it joins texts itself.
        let text = format!("{engine:?}");
        prop_assume!(!["true", "false", "none", "True", "False", "None"].iter().any(|word| text.contains(word)));
        prop_assert_eq!(same(lowered), same(engine));
    }

    #[test]
    fn compiling_never_panics(text in "\\PC{0,40}") {
        let _ = compile(&text, &MAP);
        let _ = compile(&format!("$.a{text}"), &MAP);
        let _ = compile(&format!("{{{{ record.a{text} }}}}"), &MAP);
    }

    #[test]
    fn nothing_that_looks_like_the_language_panics(
        text in "(\\$|\\.a|\\[0\\]|\\[\\*\\]|\\[\\?@\\.a|\\]|\\| ?|decimal|timestamp|default|\\('?x'?\\)|\\{\\{ |\\}\\}|\\{% |%\\}|record|\\.| |if|for x in|end|'|\")*"
    ) {
        let text: String = text.chars().take(80).collect();
        if let Ok(expr) = compile(&text, &MAP) {
            let _ = expr.eval(&env(order()));
        }
    }

    #[test]
    fn filters_never_panic(document in documents(), which in 0..FILTERS.len()) {
        let text = format!("$ | {}", FILTERS[which]);
        let native = eval(&text, &MAP, &env(document.clone()));
        let engine = eval(&format!("{{{{ (record) | {} }}}}", FILTERS[which]), &MAP, &env(document));
        prop_assert_eq!(native.is_ok(), engine.is_ok());
    }
}

const FILTERS: &[&str] = &[
    "string",
    "integer",
    "number",
    "decimal",
    "decimal(1)",
    "boolean",
    "timestamp",
    "timestamp('%Y')",
    "date",
    "strftime('%Y')",
    "json",
    "lookup('status', else=1)",
    "apply('line')",
    "default(1)",
    "optional",
    "filled",
    "omit('a')",
    "pick('*')",
    "entries",
    "lower_keys",
    "zip_object",
    "zip_object('a')",
    "lower",
    "upper",
    "trim",
    "trim('a')",
    "split",
    "split('a')",
    "join",
    "join(',')",
    "first",
    "last",
    "sum",
    "sha256",
    "base64",
    "urlencode",
];
