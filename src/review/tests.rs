//! Every kind of change has an edit that shows it, and nothing else does.

use std::{collections::BTreeSet, path::Path};

use serde_json::json;

use super::*;
use crate::{
    diagnostic::{SourceFile, render_human},
    plan::{Sources, read},
};

/// Files by path.
struct Files(BTreeMap<PathBuf, Arc<SourceFile>>);

impl Sources for Files {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        self.0.get(path).cloned()
    }
}

fn side(files: &[(&str, &str)]) -> Side {
    side_with(files, &|_| {})
}

/// A side whose schemas are edited.
fn side_with(files: &[(&str, &str)], edit: &dyn Fn(&mut Value)) -> Side {
    compiled(files, edit).unwrap_or_else(|said| panic!("{said}"))
}

/// The same, or what is wrong with its files.
fn compiled(files: &[(&str, &str)], edit: &dyn Fn(&mut Value)) -> Result<Side, String> {
    let mut schema = json!({
        "$id": "order.v1", "type": "object", "required": ["id"],
        "properties": { "id": { "type": "string" } },
    });
    edit(&mut schema);
    let schemas = ["order.v1", "order.v2"];
    let own = schemas.map(|name| (format!("schemas/{name}.json"), schema.to_string()));
    let given = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    let sources = given.chain(own).map(|(path, text)| {
        let path = PathBuf::from(path);
        (path.clone(), Arc::new(SourceFile { path, text }))
    });
    let sources = Files(sources.collect());
    let filed = |(path, _): &(&str, &str)| {
        let written = read(Path::new(""), Path::new(path), &sources);
        let said = render_human(&written.compiled.diagnostics, false);
        written.plan.is_some().then_some(Filed { at: path.into(), written }).ok_or(said)
    };
    Ok(Side {
        files: files.iter().map(filed).collect::<Result<_, _>>()?,
        schemas: schemas.map(|name| (name.to_owned(), schema.clone())).into(),
    })
}

/// A connector with a little of everything.
const BASE: &str = r#"
name    = "shop"
version = "1.0.0"
owner   = "commerce"

[vars]
region = { doc = "where", default = "eu", one_of = ["eu", "us"] }
shop   = { doc = "which", default = "acme" }

[source]
base = "https://{{ vars.region }}.shop.example/api"
auth = "shop"
rate = "2/s"

[auth.shop]
type  = "header"
name  = "X-Token"
value = "{{ secret.SHOP_TOKEN }}"

[auth.erp]
type          = "oauth2"
grant         = "client_credentials"
token_url     = "https://login.acme.example/token"
client_id     = "{{ secret.ERP_ID }}"
client_secret = "{{ secret.ERP_SECRET }}"
scopes        = ["orders.write", "orders.read"]

[schedule]
every = "5m"

[verify.acme]
algorithm = "hmac-sha256"
signed    = "{{ timestamp }}.{{ body }}"
signature = { header = "X-Signature" }
timestamp = { header = "X-Time" }

[stream.orders]
key      = "$.id"
revision = "$.updated_at | timestamp"
tenant   = "{{ vars.shop }}"
when     = "{{ record.test == false }}"
delete   = "{{ record.deleted }}"
with     = { batch = "$.batch" }
dedupe   = "7d"
redact   = ["email"]
to       = ["erp"]

[stream.orders.webhook]
path    = "/shop/orders"
methods = ["POST", "PUT"]
verify  = "acme"
secrets = ["{{ secret.HOOK }}"]
events  = "$.events[*]"

[stream.orders.poll]
path    = "/orders"
query   = { status = "any" }
records = "$.orders[*]"
page    = { by = "page", param = "page", size = 250, size_param = "limit" }

[stream.orders.poll.cursor]
field       = "$.updated_at"
sorted      = "asc"
start       = "2025-01-31"
start_param = "since"
lookback    = "10m"

[stream.orders.map]
id      = "shop:{{ record.id }}"
number  = "$.number"
total   = "$.total | decimal(2)"
email   = "$.email | optional"
note    = "$.note | default('none')"
status  = "$.status | lookup('status')"
channel = "web"
gone    = "{{ event.delete }}"
lines   = "$.lines[*] | apply('line')"
"*"     = "$ | pick('x_*')"

[map.line]
sku   = "$.sku"
price = "$.price | decimal"

[map.idle]
a = "$.a"

[lookup.status]
paid    = "settled"
pending = "open"

[destination.erp]
type        = "http"
method      = "PUT"
url         = "https://erp.acme.example/orders/{{ out.id }}"
headers     = { X-Source = "shop" }
auth        = "erp"
order       = "key"
concurrency = 64

[destination.log]
type = "file"
path = "orders.jsonl"

[retry]
attempts = 12

[slo]
success = "99.9%"
"#;

/// An edit of [`BASE`], and the rules it shows, in the order in which they are told.
type Edit = (&'static [(&'static str, &'static str)], &'static [&'static str]);

/// Every edit replaces each text on the left, which stands once in the base, by the one on the right.
const EDITS: &[Edit] = &[
    (&[("name    = \"shop\"", "name    = \"store\"")], &["connector.renamed"]),
    (&[("# none", "# none")], &[]),
    (&[("[schedule]", "# nothing new\n[schedule]")], &["text"]),
    (&[("$.total | decimal(2)", "$.total|decimal( 2 )")], &["wording"]),
    (&[("version = \"1.0.0\"", "version = \"1.0.1\"")], &["version"]),
    (&[("owner   = \"commerce\"", "owner   = \"sales\"")], &["about"]),
    (
        &[(
            "[retry]",
            "[[change]]\nversion = \"1.0.0\"\ndate = 2026-01-01\nkind = \"added\"\nnote = \"it\"\n[retry]",
        )],
        &["changelog"],
    ),
    (
        &[(
            "[retry]",
            "[[test]]\nname = \"t\"\nstream = \"orders\"\ngiven = {}\nexpect = {}\n[retry]",
        )],
        &["tests"],
    ),
    (&[("[retry]", "[lints]\nmissing_runbook = \"allow\"\n[retry]")], &["lints"]),
    // Variables.
    (&[("[source]", "who = { doc = \"new\" }\n[source]")], &["var.required"]),
    (&[("[source]", "who = { doc = \"new\", default = \"x\" }\n[source]")], &["var.added"]),
    (&[("shop   = {", "store  = {"), ("vars.shop", "vars.store")], &["var.renamed"]),
    (
        &[("shop   = { doc = \"which\", default = \"acme\" }", ""), ("{{ vars.shop }}", "acme")],
        &["var.removed"],
    ),
    (&[("[\"eu\", \"us\"]", "[\"eu\"]")], &["var.narrowed"]),
    (&[("[\"eu\", \"us\"]", "[\"eu\", \"us\", \"ap\"]")], &["var.widened"]),
    (&[("doc = \"where\"", "doc = \"the region\"")], &["var.text"]),
    (&[("default = \"eu\"", "default = \"us\"")], &["poll.url", "host.added"]),
    (&[("default = \"acme\"", "default = \"acme-2\"")], &["tenant"]),
    // Secrets, hosts, auth.
    (&[("secret.SHOP_TOKEN", "secret.STORE_TOKEN")], &["secret.renamed"]),
    (
        &[("\"{{ secret.HOOK }}\"", "\"{{ secret.HOOK }}\", \"{{ secret.HOOK_2 }}\"")],
        &["secret.added", "webhook.secret_added"],
    ),
    (
        &[(
            "type  = \"header\"\nname  = \"X-Token\"\nvalue = \"{{ secret.SHOP_TOKEN }}\"",
            "type = \"basic\"\nuser = \"{{ secret.ERP_ID }}\"",
        )],
        &["auth.type", "secret.removed"],
    ),
    (&[("\"X-Token\"", "\"X-Key\"")], &["auth.setting"]),
    (
        &[(
            "[auth.erp]",
            "[auth.other]\ntype = \"bearer\"\ntoken = \"{{ secret.ERP_ID }}\"\n[auth.erp]",
        )],
        &["auth.added"],
    ),
    (
        &[("[auth.shop]", "[auth.store]"), ("auth = \"shop\"", "auth = \"store\"")],
        &["auth.renamed"],
    ),
    (
        &[(
            "grant         = \"client_credentials\"",
            "grant = \"refresh_token\"\nrefresh_token = \"{{ secret.ERP_ID }}\"",
        )],
        &["auth.login", "auth.setting"],
    ),
    (&[("\"orders.read\"]", "\"orders.read\", \"stock.read\"]")], &["auth.scopes_added"]),
    (&[(", \"orders.read\"]", "]")], &["auth.scopes_removed"]),
    (
        &[
            ("auth = \"shop\"\nrate", "rate"),
            (
                "[auth.shop]\ntype  = \"header\"\nname  = \"X-Token\"\nvalue = \"{{ secret.SHOP_TOKEN }}\"\n",
                "",
            ),
        ],
        &["auth.removed", "poll.auth", "secret.removed"],
    ),
    (&[("success = \"99.9%\"", "success = \"99%\"")], &["slo"]),
    (
        &[("https://login.acme.example/token", "https://sso.acme.example/token")],
        &["auth.setting", "host.added"],
    ),
    // Streams.
    (
        &[(
            "[stream.orders.webhook]",
            "[stream.more]\nto = [\"log\"]\n[stream.more.webhook]\npath = \"/more\"\nverify = \"none\"\n[stream.orders.webhook]",
        )],
        &["stream.added"],
    ),
    (&[("[stream.orders", "[stream.sales")], &["stream.renamed"]),
    (&[("key      = \"$.id\"", "key      = \"$.order_id\"")], &["key"]),
    (&[("revision = \"$.updated_at | timestamp\"", "revision = \"$.updated_at\"")], &["revision"]),
    (&[("tenant   = \"{{ vars.shop }}\"", "tenant   = \"$.shop\"")], &["tenant"]),
    (&[("when     = \"{{ record.test == false }}\"\n", "")], &["when.removed"]),
    (&[("record.test == false", "record.test != true")], &["when"]),
    (&[("record.deleted", "record.removed")], &["delete"]),
    (
        &[("record.deleted", "record.removed"), ("gone    = \"{{ event.delete }}\"\n", "")],
        &["delete", "field.removed"],
    ),
    (&[("batch = \"$.batch\"", "batch = \"$.run\"")], &["with"]),
    (&[("dedupe   = \"7d\"", "dedupe   = \"1d\"")], &["dedupe"]),
    (&[("to       = [\"erp\"]", "to       = [\"erp\", \"log\"]")], &["to.added"]),
    (&[("to       = [\"erp\"]", "to       = [\"log\"]")], &["to.removed", "to.added"]),
    (&[("redact   = [\"email\"]", "redact   = [\"email\", \"note\"]")], &["redact.added"]),
    (&[("redact   = [\"email\"]\n", "")], &["redact.removed"]),
    (&[("to       = [\"erp\"]", "to = [\"erp\"]\nschema = \"order.v1\"")], &["schema.added"]),
    // The map.
    (
        &[(
            "id      = \"shop:{{ record.id }}\"",
            "id      = \"shop:{{ record.id }}\"\nvat = \"$.vat\"",
        )],
        &["field.added"],
    ),
    (&[("number  = \"$.number\"\n", "")], &["field.removed"]),
    (&[("number  =", "order_number  =")], &["field.renamed"]),
    (&[("email   =", "mail   =")], &["field.renamed", "redact.removed"]),
    (&[("$.total | decimal(2)", "$.total")], &["field.type"]),
    (&[("$.total | decimal(2)", "$.total | decimal")], &["field.type"]),
    (&[("shop:{{ record.id }}", "store:{{ record.id }}")], &["field.value"]),
    (&[("channel = \"web\"", "channel = \"shop\"")], &["field.value"]),
    (&[("number  = \"$.number\"", "number  = \"$.order_number\"")], &["field.source"]),
    (&[("\"$.number\"", "\"$.number | optional\"")], &["field.optional"]),
    (&[("$.email | optional", "$.email")], &["field.required"]),
    (&[("\"$.number\"", "\"$.number | default('0')\"")], &["field.default_added"]),
    (&[("$.note | default('none')", "$.note")], &["field.default_removed"]),
    (&[("default('none')", "default('')")], &["field.default"]),
    (&[("\"*\"     = \"$ | pick('x_*')\"\n", "")], &["rest.removed"]),
    (&[("pick('x_*')", "pick('y_*')")], &["rest"]),
    (&[("pending = \"open\"", "pending = \"open\"\nvoid = \"cancelled\"")], &["lookup.added"]),
    (&[("pending = \"open\"\n", "")], &["lookup.removed"]),
    (&[("pending = \"open\"", "pending = \"waiting\"")], &["lookup.value"]),
    (
        &[("[lookup.status]", "[lookup.state]"), ("lookup('status')", "lookup('state')")],
        &["library.renamed"],
    ),
    (&[("[map.line]", "[map.item]"), ("apply('line')", "apply('item')")], &["library.renamed"]),
    (&[("a = \"$.a\"", "a = \"$.b\"")], &["library.unused"]),
    (&[("price = \"$.price | decimal\"", "price = \"$.price\"")], &["field.type"]),
    // The webhook.
    (
        &[(
            "[stream.orders.webhook]\npath    = \"/shop/orders\"\nmethods = [\"POST\", \"PUT\"]\nverify  = \"acme\"\nsecrets = [\"{{ secret.HOOK }}\"]\nevents  = \"$.events[*]\"\n",
            "",
        )],
        &["webhook.removed", "secret.removed"],
    ),
    (&[("/shop/orders", "/orders")], &["webhook.path"]),
    (&[("[\"POST\", \"PUT\"]", "[\"POST\", \"PUT\", \"PATCH\"]")], &["webhook.methods_added"]),
    (&[("[\"POST\", \"PUT\"]", "[\"POST\"]")], &["webhook.methods_removed"]),
    (&[("hmac-sha256", "hmac-sha512")], &["webhook.verify"]),
    (&[("X-Signature", "X-Sign")], &["webhook.verify"]),
    (
        &[("verify  = \"acme\"\nsecrets = [\"{{ secret.HOOK }}\"]", "verify  = \"none\"")],
        &["webhook.open", "webhook.secret", "secret.removed"],
    ),
    (
        &[(
            "timestamp = { header = \"X-Time\" }",
            "timestamp = { header = \"X-Time\", past = \"1m\" }",
        )],
        &["webhook.tolerance"],
    ),
    // What was signed long ago counts again.
    (
        &[
            ("timestamp = { header = \"X-Time\" }\n", ""),
            ("{{ timestamp }}.{{ body }}\"", "{{ request.headers['x-time'] }}.{{ body }}\""),
        ],
        &["webhook.open"],
    ),
    (
        &[(
            "[stream.orders]",
            "[verify.acme.challenge]\nwhen = \"{{ request.body.c }}\"\njson = { c = \"{{ request.body.c }}\" }\n[stream.orders]",
        )],
        &["webhook.challenge"],
    ),
    (
        &[(
            "{{ timestamp }}.{{ body }}\"",
            "{{ timestamp }}.{{ body }}{{ url }}\"\nurls = [\"with_port\"]",
        )],
        &["webhook.verify"],
    ),
    (
        &[(
            "signed    = \"{{ timestamp }}.{{ body }}\"",
            "signed = \"{{ timestamp }}\"\ncovers_body = false",
        )],
        &["webhook.open"],
    ),
    (
        &[(
            "signed    = \"{{ timestamp }}.{{ body }}\"",
            "signed = \"{{ timestamp }}.{{ body }}\"\nonce = \"{{ request.body.id }}\"\nrequire = \"{{ request.body.live }}\"",
        )],
        &["webhook.verify"],
    ),
    (
        &[("verify  = \"acme\"", "verify  = \"acme\"\nurl = \"https://hooks.example/shop\"")],
        &["webhook.verify"],
    ),
    (&[("secret.HOOK }}", "secret.ERP_ID }}")], &["webhook.secret", "secret.removed"]),
    (
        &[(
            "[\"{{ secret.HOOK }}\"]",
            "[{ value = \"{{ secret.HOOK }}\", not_after = \"2030-01-01\" }]",
        )],
        &["webhook.secret_until"],
    ),
    (&[("$.events[*]", "$.items[*]")], &["webhook.events"]),
    (
        &[("events  = \"$.events[*]\"", "events  = \"$.events[*]\"\nreply = { status = 200 }")],
        &["webhook.reply"],
    ),
    (
        &[("events  = \"$.events[*]\"", "events  = \"$.events[*]\"\nmax_body = \"64KiB\"")],
        &["webhook.limit"],
    ),
    // The poll.
    (&[("path    = \"/orders\"\nquery", "path    = \"/v2/orders\"\nquery")], &["poll.url"]),
    (&[("status = \"any\"", "status = \"open\"")], &["poll.request"]),
    (&[("auth = \"shop\"", "auth = \"erp\"")], &["poll.auth"]),
    (&[("$.orders[*]", "$.data.orders[*]")], &["poll.records"]),
    (&[("by = \"page\", param = \"page\"", "by = \"link\"")], &["page.by"]),
    (&[("by = \"page\", param = \"page\"", "by = \"none\"")], &["page.none"]),
    (&[("size = 250", "size = 100")], &["page.size"]),
    (&[("param = \"page\"", "param = \"p\"")], &["page.setting"]),
    (&[("field       = \"$.updated_at\"", "field       = \"$.created_at\"")], &["cursor.field"]),
    (
        &[
            (
                "sorted      = \"asc\"\nstart       = \"2025-01-31\"",
                "format = \"integer\"\nsorted = \"asc\"\nstart = \"1\"",
            ),
            ("lookback    = \"10m\"\n", ""),
        ],
        &["cursor.kind", "cursor.start", "cursor.setting"],
    ),
    (
        &[("sorted      = \"asc\"", "sorted      = \"asc\"\nformat = \"epoch_s\"")],
        &["cursor.format"],
    ),
    (&[("2025-01-31", "2025-01-01")], &["cursor.start"]),
    (&[("lookback    = \"10m\"", "lookback    = \"1m\"")], &["cursor.setting"]),
    (
        &[(
            "[stream.orders.poll.cursor]\nfield       = \"$.updated_at\"\nsorted      = \"asc\"\nstart       = \"2025-01-31\"\nstart_param = \"since\"\nlookback    = \"10m\"\n",
            "",
        )],
        &["cursor.removed"],
    ),
    (
        &[("lookback    = \"10m\"", "lookback    = \"10m\"\nuntil       = \"2026-01-01\"")],
        &["cursor.until"],
    ),
    (
        &[("query   = {", "on      = [{ status = 404, then = \"fail\" }]\nquery   = {")],
        &["poll.on"],
    ),
    (
        &[("query   = {", "on      = [{ status = 404, then = \"skip\" }]\nquery   = {")],
        &["poll.gives_up"],
    ),
    (
        &[("status = \"any\" }", "status = \"{{ each.state }}\" }\neach    = { state = [\"a\"] }")],
        &["poll.each", "poll.request"],
    ),
    (
        &[("query   = {", "detail  = { path = \"/orders/{{ record.id }}\" }\nquery   = {")],
        &["poll.detail"],
    ),
    (
        &[(
            "query   = {",
            "detail  = [{ name = \"items\", path = \"/orders/{{ record.id }}/items\" }]\nquery   = {",
        )],
        &["poll.detail.added"],
    ),
    (
        &[(
            "[stream.orders.map]",
            "[stream.orders.poll.job]\npath = \"/jobs/{{ job.id }}\"\ndone = \"{{ response.body.done }}\"\n\
             [stream.orders.map]",
        )],
        &["poll.job"],
    ),
    (
        &[("[stream.orders.poll]", "[stream.orders.vars]\nkind = \"a\"\n[stream.orders.poll]")],
        &["stream.var"],
    ),
    (&[("rate = \"2/s\"", "rate = \"5/s\"")], &["poll.limit"]),
    (&[("every = \"5m\"", "every = \"1h\"")], &["schedule"]),
    (
        &[(
            "every = \"5m\"",
            "every = \"5m\"\n[schedule.reconcile]\nevery = \"24h\"\nwindow = \"6d\"\nsilence = \"3h\"",
        )],
        &["schedule.reconcile", "schedule.reconcile"],
    ),
    // Destinations.
    (&[("[retry]", "[destination.more]\ntype = \"stdout\"\n[retry]")], &["destination.added"]),
    (
        &[("[destination.log]\ntype = \"file\"\npath = \"orders.jsonl\"\n", "")],
        &["destination.removed"],
    ),
    (
        &[
            ("[destination.erp]", "[destination.wms]"),
            ("to       = [\"erp\"]", "to       = [\"wms\"]"),
        ],
        &["destination.renamed"],
    ),
    (&[("type = \"file\"\npath = \"orders.jsonl\"", "type = \"stdout\"")], &["destination.type"]),
    (&[("erp.acme.example/orders", "erp.acme.example/v2/orders")], &["destination.url"]),
    (&[("method      = \"PUT\"", "method      = \"POST\"")], &["destination.method"]),
    (
        &[("X-Source = \"shop\"", "X-Source = \"shop\", X-More = \"1\"")],
        &["destination.header_added"],
    ),
    (&[("X-Source = \"shop\"", "X-Source = \"store\"")], &["destination.header"]),
    (
        &[("order       = \"key\"", "order       = \"key\"\nbody = { order = \"$\" }")],
        &["destination.body"],
    ),
    (
        &[("order       = \"key\"", "on = [{ status = 409, then = \"retry\" }]\norder = \"key\"")],
        &["destination.on"],
    ),
    (
        &[(
            "order       = \"key\"",
            "on = [{ status = 409, then = \"superseded\" }]\norder = \"key\"",
        )],
        &["destination.gives_up"],
    ),
    (&[("auth        = \"erp\"", "auth        = \"shop\"")], &["destination.auth"]),
    (&[("orders.jsonl", "sales.jsonl")], &["destination.path"]),
    (
        &[("path = \"orders.jsonl\"", "path = \"orders.jsonl\"\nkeep = 3")],
        &["destination.rotation"],
    ),
    (&[("order       = \"key\"", "order       = \"none\"")], &["destination.order_removed"]),
    (&[("concurrency = 64", "concurrency = 8")], &["destination.limit"]),
    (&[("concurrency = 64", "concurrency = 64\nbreaker = { of = 5 }")], &["destination.breaker"]),
    (&[("attempts = 12", "attempts = 5")], &["retry"]),
];

fn edited(edits: &[(&str, &str)]) -> String {
    let mut text = BASE.to_owned();
    for (old, new) in edits {
        assert!(*old == "# none" || text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    text
}

fn rules(old: &Side, new: &Side) -> Vec<&'static str> {
    let found = review(old, new);
    let mut ids: Vec<&str> =
        found.iter().flat_map(|one| &one.changes).map(|change| change.rule.info().id).collect();
    ids.dedup();
    ids
}

#[test]
fn every_edit_shows_its_rules_and_no_others() {
    let old = side(&[("shop.toml", BASE)]);
    let mut wrong = Vec::new();
    for (edits, expected) in EDITS {
        let text = edited(edits);
        let found = rules(&old, &side(&[("shop.toml", &text)]));
        let sorted = |ids: &[&'static str]| ids.iter().copied().collect::<BTreeSet<_>>();
        if sorted(&found) != sorted(expected) {
            wrong.push(format!("{edits:?}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Edits of more than one file, or against another base: what they show stands beside each.
fn other_edits() -> Vec<(Side, Side, &'static [&'static str])> {
    let whole = |text: &str| side(&[("shop.toml", text)]);
    let without = |part: &str| BASE.replace(part, "");
    let small = "name = \"small\"\n[stream.a.webhook]\npath = \"/a\"\nverify = \"none\"\n\
                 [destination.x]\ntype = \"stdout\"\n";
    let mapped = format!("{small}[stream.a.map]\nid = \"$.id\"\n");
    let starred = format!("{mapped}\"*\" = \"$\"\n");
    let deleting = format!("{small}[stream.a]\ndelete = \"{{{{ record.x }}}}\"\n");
    let base =
        "name = \"base\"\n[stream.a.webhook]\npath = \"/a\"\nverify = \"none\"\n[vars]\nx = 1\n";
    let instance = "use = \"base.toml\"\nname = \"eu\"\ntenant = \"a\"\n[vars]\nx = 1\n\
                    [destination.d]\ntype = \"stdout\"\n";
    let instances = |own: &str| side(&[("base.toml", base), ("eu.toml", own)]);
    let poll = &BASE
        [BASE.find("[stream.orders.poll]").unwrap()..BASE.find("[stream.orders.map]").unwrap()];
    let cursor = &poll[poll.find("[stream.orders.poll.cursor]").unwrap()..];
    let each = |values: &str| {
        let one = format!("status = \"{{{{ each.state }}}}\" }}\neach = {{ state = {values} }}");
        BASE.replace("status = \"any\" }", &one)
    };
    let detail = |path: &str| {
        BASE.replace("query   = {", &format!("detail = {{ path = \"{path}\" }}\nquery   = {{"))
    };
    let job = |keys: &str| {
        let job = format!(
            "[stream.orders.poll.job]\npath = \"/jobs/{{{{ job.id }}}}\"\n{keys}\n[stream.orders.map]"
        );
        whole(&BASE.replace("[stream.orders.map]", &job))
    };
    let done = "done = \"{{ response.body.done }}\"";
    let ready = "done = \"{{ response.body.ready }}\"\nfailed = \"{{ response.body.failed }}\"\n\
                 every = \"1m\"\nwithin = \"30m\"\ntake = \"$.job\"";
    let url = "download = \"$.url\"";
    let by_post = "method = \"POST\"\nbody = { id = \"{{ job.id }}\" }\nquery = { v = \"2\" }";
    let webhook_at = BASE.find("[stream.orders.webhook]").unwrap();
    let webhook = &BASE[webhook_at..BASE.find("[stream.orders.poll]").unwrap()];
    let more = BASE.replace(
        "[stream.orders.webhook]",
        "[stream.more]\nto = [\"log\"]\n[stream.more.webhook]\npath = \"/more\"\n\
         verify = \"none\"\n[stream.orders.webhook]",
    );
    let schema = |name: &str| BASE.replace("dedupe   = \"7d\"", &format!("schema = \"{name}\""));
    let with_schema =
        |edit: &dyn Fn(&mut Value)| side_with(&[("shop.toml", &schema("order.v1"))], edit);
    let single =
        small.replace("type = \"stdout\"", "type = \"http\"\nurl = \"https://x.example/in\"");
    let batch = |keys: &str| format!("{single}[destination.x.batch]\nmax = 50\n{keys}");
    let judged = batch("results = \"$.items[*]\"\nok = \"$.ok\"\n");
    let matched = format!("{judged}by = \"$.id\"\n");
    let rollout = |table: &str| whole(&format!("{small}[rollout]\n{table}"));
    let canary = |share: &str, halt: &str| {
        let halt = format!("[rollout.halt]\nfailures = \"5%\"\n{halt}");
        rollout(&format!("mode = \"canary\"\nof = \"shop\"\nshare = \"{share}\"\n{halt}"))
    };
    vec![
        (whole(&single), whole(&batch("")), &["batch.added"]),
        (whole(&batch("")), whole(&single), &["batch.removed"]),
        (whole(&batch("")), whole(&batch("within = \"5s\"\n")), &["batch.size"]),
        (whole(&judged), whole(&matched), &["batch.results"]),
        (whole(small), rollout("mode = \"off\""), &["rollout.off"]),
        (whole(small), rollout("mode = \"live\""), &["wording"]),
        (rollout("mode = \"off\""), whole(small), &["rollout.on"]),
        (canary("10%", ""), whole(small), &["rollout.on", "rollout.variant"]),
        (rollout("mode = \"shadow\"\nof = \"shop\""), canary("10%", ""), &["rollout.variant"]),
        (canary("10%", ""), canary("20%", ""), &["rollout.variant"]),
        (canary("10%", ""), canary("10%", "burn = 3"), &["rollout.variant"]),
        (canary("10%", ""), canary("10%", "of = 50"), &["rollout.variant"]),
        (canary("10%", ""), canary("10%", "within = \"1h\""), &["rollout.variant"]),
        (side(&[]), side(&[("small.toml", small)]), &["connector.added"]),
        (side(&[("small.toml", small)]), side(&[]), &["connector.removed"]),
        (side(&[("a.toml", small)]), side(&[("b/a.toml", small)]), &["moved"]),
        (whole(small), whole(&mapped), &["map.added"]),
        (whole(&mapped), whole(small), &["map.removed"]),
        (whole(&mapped), whole(&starred), &["rest.added"]),
        (whole(small), whole(&deleting), &["delete.unread"]),
        (whole(&more), whole(BASE), &["stream.removed"]),
        (whole(&without(poll)), whole(BASE), &["poll.added", "host.added"]),
        (whole(BASE), whole(&without(poll)), &["poll.removed"]),
        (
            whole(&detail("/orders/{{ record.id }}")),
            whole(&detail("/v2/orders/{{ record.id }}")),
            &["poll.detail.request"],
        ),
        (whole(&each("[\"a\"]")), whole(&each("[\"a\", \"b\"]")), &["poll.each.choice"]),
        (job(done), job(ready), &["poll.job.setting"]),
        (job(done), job(&format!("{done}\n{url}")), &["poll.job.result"]),
        (job(done), job(&format!("{done}\n{by_post}")), &["poll.job.request"]),
        (
            job(&format!("{done}\ndownload = \"/files/{{{{ job.id }}}}\"")),
            job(&format!("{done}\ndownload = \"https://files.example/{{{{ job.id }}}}\"")),
            &["poll.job.request", "host.added"],
        ),
        (whole(&without(cursor)), whole(BASE), &["cursor.added"]),
        (whole(&without(webhook)), whole(BASE), &["webhook.added", "secret.added"]),
        (whole(&without("order       = \"key\"\n")), whole(BASE), &["destination.order_added"]),
        (
            whole(&without("when     = \"{{ record.test == false }}\"\n")),
            whole(BASE),
            &["when.added"],
        ),
        (instances(instance), instances(&instance.replace("\"a\"", "\"b\"")), &["tenant.instance"]),
        (instances(instance), instances(&instance.replace("x = 1", "x = 2")), &["var.value"]),
        (whole(&schema("order.v1")), whole(&schema("order.v2")), &["schema.version"]),
        (whole(&schema("order.v1")), whole(&without("dedupe   = \"7d\"\n")), &["schema.removed"]),
        (
            with_schema(&|_| {}),
            with_schema(&|schema| schema["required"] = json!(["id", "total"])),
            &["schema.stricter"],
        ),
        (
            with_schema(&|_| {}),
            with_schema(&|schema| schema["required"] = json!([])),
            &["schema.promise"],
        ),
        (
            with_schema(&|_| {}),
            with_schema(&|schema| schema["properties"]["note"] = json!({ "type": "string" })),
            &["schema.looser"],
        ),
        (
            with_schema(&|_| {}),
            with_schema(&|schema| schema["title"] = json!("An order")),
            &["schema.text"],
        ),
    ]
}

#[test]
fn edits_of_files_and_instances_show_their_rules() {
    for (old, new, expected) in other_edits() {
        let found: BTreeSet<_> = rules(&old, &new).into_iter().collect();
        assert_eq!(found, expected.iter().copied().collect());
    }
}

#[test]
fn every_rule_is_shown_by_an_edit() {
    let mut shown: BTreeSet<&str> =
        EDITS.iter().flat_map(|(_, rules)| rules.iter().copied()).collect();
    shown.extend(other_edits().iter().flat_map(|(_, _, rules)| rules.iter().copied()));
    let missing: Vec<&str> =
        RULES.iter().map(|rule| rule.info().id).filter(|id| !shown.contains(id)).collect();
    assert!(missing.is_empty(), "no edit shows {missing:?}");
    let ids: BTreeSet<&str> = RULES.iter().map(|rule| rule.info().id).collect();
    assert_eq!(ids.len(), RULES.len(), "each once");
    assert!(shown.is_subset(&ids));
}

#[test]
fn what_an_instance_gets_from_its_base_is_told_once() {
    let base = "name = \"base\"\n[stream.a.webhook]\npath = \"/a\"\nverify = \"none\"\n\
                [stream.a.map]\nid = \"$.id\"\n";
    let instance = "use = \"base.toml\"\nname = \"eu\"\n[destination.d]\ntype = \"stdout\"\n";
    let new_base = base.replace("$.id", "$.id | integer");
    let new_instance = instance.replace("\"stdout\"", "\"stdout\"\norder = \"key\"");
    let old = side(&[("base.toml", base), ("eu.toml", instance)]);
    let new = side(&[("base.toml", &new_base), ("eu.toml", &new_instance)]);
    let found = review(&old, &new);
    let told: Vec<(&str, Vec<&str>)> = found
        .iter()
        .map(|one| {
            let rules = one.changes.iter().map(|change| change.rule.info().id).collect();
            (&*one.name, rules)
        })
        .collect();
    assert_eq!(told, [("base", vec!["field.type"]), ("eu", vec!["destination.order_added"])]);
    assert_eq!(found[0].reaches, [Arc::from("eu")]);
    // Alone it tells everything.
    let alone = |base: &str, own: &str| {
        let mut side = side(&[("base.toml", base), ("eu.toml", own)]);
        side.files.remove(0);
        side
    };
    let found = review(&alone(base, instance), &alone(&new_base, instance));
    assert_eq!(found[0].changes.len(), 1);
}

#[test]
fn what_several_streams_share_is_one_change() {
    let text = "name = \"a\"\n[source]\nbase = \"https://a.example\"\nrate = \"1/s\"\n\
                [schedule]\nevery = \"1m\"\n[stream.x.poll]\npath = \"/x\"\n[stream.y.poll]\n\
                path = \"/y\"\n[destination.d]\ntype = \"stdout\"\n";
    let old = side(&[("a.toml", text)]);
    let found = review(&old, &side(&[("a.toml", &text.replace("1/s", "9/s"))]));
    assert_eq!(found[0].changes.len(), 1);
    assert_eq!(found[0].changes[0].headline(), "streams x, y: poll.rate 1/s → 9/s");
}

#[test]
fn literal_secrets_are_in_no_sentence_and_on_no_line() {
    let old = edited(&[("{{ secret.SHOP_TOKEN }}", "hunter2-hunter2")]);
    let new = edited(&[("{{ secret.SHOP_TOKEN }}", "swordfish-swordfish")]);
    let found = review(&side(&[("shop.toml", &old)]), &side(&[("shop.toml", &new)]));
    let said = format!("{:?}", found.iter().map(|one| &one.changes).collect::<Vec<_>>());
    assert_eq!(found[0].changes[0].rule.info().id, "auth.setting", "{said}");
    assert!(!said.contains("hunter2") && !said.contains("swordfish"), "{said}");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Writes the base in another form: blank lines, comments and spaces that mean nothing, and its
    /// tables in another order.
    fn reformatted(seeds: &[u8]) -> String {
        let mut seeds = seeds.iter().cycle();
        let mut next = move || *seeds.next().unwrap_or(&0);
        let mut blocks: Vec<String> = Vec::new();
        for line in BASE.lines() {
            if line.starts_with('[') || blocks.is_empty() {
                blocks.push(String::new());
            }
            let block = blocks.last_mut().expect("one was begun");
            if next() % 5 == 0 {
                block.push_str("\n  # by the way\n");
            }
            let spaced = match next() % 4 {
                0 => line.replace(" = ", "   =  "),
                1 if line.contains(" = ") => format!("{line}  # so it is"),
                _ => line.to_owned(),
            };
            block.push_str(&spaced);
            block.push('\n');
        }
        // Tables may stand in any order; the keys before the first header may not.
        let mut tables = blocks.split_off(1);
        for at in (1..tables.len()).rev() {
            tables.swap(at, usize::from(next()) % (at + 1));
        }
        blocks.into_iter().chain(tables).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn form_alone_is_cosmetic(seeds in prop::collection::vec(any::<u8>(), 1..200)) {
            let text = reformatted(&seeds);
            let (old, new) = (side(&[("shop.toml", BASE)]), side(&[("shop.toml", &text)]));
            for reviewed in review(&old, &new) {
                for change in reviewed.changes {
                    prop_assert_eq!(change.class(), Class::Cosmetic, "{}", change.headline());
                }
            }
            prop_assert!(review(&new, &new).is_empty());
        }

        #[test]
        fn whatever_was_edited_is_told_in_whole_sentences(
            some in prop::collection::vec((0..EDITS.len(), 0..EDITS.len()), 1..4),
        ) {
            let (mut old, mut new) = (BASE.to_owned(), BASE.to_owned());
            for (one, other) in some {
                for (text, edits) in [(&mut old, EDITS[one].0), (&mut new, EDITS[other].0)] {
                    *text = edits.iter().fold(text.clone(), |text, (a, b)| text.replace(a, b));
                }
            }
            let compiles = |text: &str| compiled(&[("shop.toml", text)], &|_| {}).ok();
            let (Some(old), Some(new)) = (compiles(&old), compiles(&new)) else { return Ok(()) };
            for reviewed in review(&old, &new) {
                for change in &reviewed.changes {
                    prop_assert!(change.headline().len() > 3, "{:?}", change);
                    prop_assert!(change.old.is_some() || change.new.is_some(), "{:?}", change);
                }
                for found in gate(&old, &new, &reviewed).into_iter().flatten() {
                    prop_assert!(found.help.is_some());
                }
            }
        }

        #[test]
        fn an_edit_and_its_undoing_are_both_told(at in 0..EDITS.len()) {
            let (edits, expected) = EDITS[at];
            let text = edited(edits);
            let (old, new) = (side(&[("shop.toml", BASE)]), side(&[("shop.toml", &text)]));
            prop_assert_eq!(review(&old, &new).is_empty(), expected.is_empty());
            prop_assert_eq!(review(&new, &old).is_empty(), expected.is_empty());
            prop_assert!(review(&new, &new).is_empty());
        }
    }
}
