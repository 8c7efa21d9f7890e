//! A running daemon, asked through its API and by the command line.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::program;

/// Orders by webhook into a file; a total that is no number is a dead letter.
pub const SHOP: &str = r#"name = "shop"
version = "1.0.0"

[stream.orders]
key = "$.id"
redact = ["email"]

[stream.orders.webhook]
path = "/shop/orders"
verify = "none"

[stream.orders.map]
id = "$.id"
total = "$.total | decimal"
email = "$.customer.email | optional"

[destination.out]
type = "file"
path = "OUT"
"#;

/// The program with a state and connectors of its own, stopped when dropped.
pub struct Daemon {
    child: Child,
    pub folder: TempDir,
    log: BufReader<ChildStderr>,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Daemon {
    /// Starts on one connector, and waits for the log line that says where it listens.
    pub fn start(connector: &str) -> Self {
        Self::start_with(connector, &[])
    }

    fn start_with(connector: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out.jsonl");
        let text = connector.replace("OUT", out.to_str().expect("a path of text"));
        fs::create_dir(folder.path().join("connectors")).expect("made");
        fs::write(folder.path().join("connectors/shop.toml"), text).expect("written");
        // Reloads are asked for here, so that it is known which one did it.
        fs::write(folder.path().join("tenon.toml"), "watch = false\n").expect("written");
        let (child, log) = Self::spawn(folder.path(), flags);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut daemon = Self { child, folder, log, listen: nowhere, admin: nowhere };
        daemon.listens();
        daemon
    }

    fn spawn(folder: &Path, flags: &[&str]) -> (Child, BufReader<ChildStderr>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tenon"))
            .args(["run", "connectors", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--log-format", "json", "--allow-egress", "127.0.0.0/8"])
            .args(flags)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        (child, log)
    }

    fn listens(&mut self) {
        let line = self.logged("listening");
        let address = |name: &str| line[name].as_str().and_then(|a| a.parse().ok()).expect(name);
        (self.listen, self.admin) = (address("listen"), address("admin"));
    }

    /// Killed with `kill -9`, and started again on what is on the disk.
    pub fn crash(&mut self) {
        self.signal("-KILL");
        self.child.wait().expect("it ends");
        (self.child, self.log) = Self::spawn(self.folder.path(), &[]);
        self.listens();
    }

    /// The next log line with this message.
    pub fn logged(&mut self, message: &str) -> Value {
        let mut skipped = String::new();
        loop {
            let mut line = String::new();
            let read = self.log.read_line(&mut line).expect("read");
            assert!(read > 0, "the log ended before `{message}`:\n{skipped}");
            let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
            if parsed["message"] == message {
                return parsed;
            }
            skipped.push_str(&line);
        }
    }

    /// One request: status and body. `head` is what follows the request line.
    fn ask(to: SocketAddr, line: &str, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(to).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        let length = body.len();
        write!(
            stream,
            "{line} HTTP/1.1\r\n{head}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.expect("a status"), body.to_owned())
    }

    pub fn api(&self, line: &str, body: &str) -> (u16, Value) {
        let head = format!("host: {}\r\ncontent-type: application/json\r\n", self.admin);
        let (status, body) = Self::ask(self.admin, line, &head, body);
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// Posts a record as a producer would; its event's id.
    pub fn post(&self, record: &Value) -> String {
        let head = format!("host: {}\r\ncontent-type: application/json\r\n", self.listen);
        let (status, body) =
            Self::ask(self.listen, "POST /shop/orders", &head, &record.to_string());
        assert_eq!(status, 202, "{body}");
        let start = body.find("evt_").expect("an event's id");
        body[start..start + 30].to_owned()
    }

    pub fn address(&self) -> String {
        self.admin.to_string()
    }

    pub fn tenon(&self, line: &str) -> program::Ran {
        let mut command = program::tenon(Path::new("."));
        command.env("TENON_ADMIN", self.admin.to_string());
        program::ran(command.args(line.split_whitespace()))
    }

    /// Asks until the answer fits. The daemon works beside us and tells nobody when it is done.
    pub fn until(&self, line: &str, fits: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..600 {
            let (_, answer) = self.api(line, "");
            if fits(&answer) {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{line} never answered as expected");
    }

    pub fn connector(&self, text: &str) {
        let out = self.folder.path().join("out.jsonl");
        let text = text.replace("OUT", out.to_str().expect("a path of text"));
        fs::write(self.folder.path().join("connectors/shop.toml"), text).expect("written");
    }

    pub fn delivered(&self) -> String {
        fs::read_to_string(self.folder.path().join("out.jsonl")).unwrap_or_default()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn steps(trace: &Value) -> Vec<&str> {
    let steps = trace["runs"][0]["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    steps.iter().filter_map(|step| step["what"].as_str()).collect()
}

#[test]
fn an_operators_day() {
    let mut daemon = Daemon::start(SHOP);
    let ran = daemon.tenon("status");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("\nshop       1.0.0    running"), "{}", ran.stdout);

    // One event that arrives, one that dies of its map.
    let good =
        daemon.post(&json!({"id": 1, "total": "1.50", "customer": {"email": "a@b.example"}}));
    let bad = daemon.post(&json!({"id": 2, "total": {}, "customer": {"email": "c@d.example"}}));
    let path = format!("GET /api/v1/events/{good}?body=1");
    let trace = daemon.until(&path, |trace| steps(trace).contains(&"delivered"));
    assert_eq!(trace["runs"][0]["body"]["record"]["customer"]["email"], "[redacted]");
    assert!(daemon.delivered().contains(r#""total":"1.50""#));
    let ran = daemon.tenon(&format!("trace {good} --body"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("delivered") && !ran.stdout.contains("a@b.example"),
        "{}",
        ran.stdout
    );

    daemon.until("GET /api/v1/dlq", |list| list["total"] == 1);
    let ran = daemon.tenon("dlq list --reason map_failed --json");
    let list: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let letter = list["letters"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(list["letters"][0]["event"], bad.as_str());
    let ran = daemon.tenon(&format!("dlq show {letter} --body"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("total") && !ran.stdout.contains("c@d.example"), "{}", ran.stdout);
    assert_eq!(daemon.tenon("status").stdout.matches("1 dead letter").count(), 1);

    // Mend the map, reload, and send the dead letter on its way again.
    daemon.connector(&SHOP.replace("total = \"$.total | decimal\"", "total = \"$.total\""));
    let ran = daemon.tenon("reload --wait --json");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let ran = daemon.tenon("dlq replay --connector shop --dry-run");
    assert!(ran.stdout.starts_with("1 event would be replayed\n"), "{}{}", ran.stdout, ran.stderr);
    let ran = daemon.tenon(&format!("dlq replay {letter}"));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "replayed 1 dead letter\n"), "{}", ran.stderr);
    daemon.until("GET /api/v1/status", |status| status["unsettled"] == 0);
    assert!(daemon.delivered().contains(r#""id":2"#), "{}", daemon.delivered());
    assert_eq!(daemon.tenon(&format!("dlq show {letter}")).code, 2, "it is gone");

    // A file that does not compile leaves its predecessor running, and says so.
    daemon.connector(&SHOP.replace("key =", "kee ="));
    let ran = daemon.tenon("reload");
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("kee") && ran.stdout.contains("failed"), "{}", ran.stderr);
    let ran = daemon.tenon("status shop");
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("outdated"), "{}", ran.stdout);

    daemon.signal("-TERM");
    daemon.logged("stopped");
    assert_eq!(daemon.child.wait().expect("it ends").code(), Some(0));
}

/// The command's standard output or error has these words, and its exit code is this.
fn says(ran: &program::Ran, code: i32, words: &[&str]) {
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, code, "{said}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
}

#[test]
fn a_change_is_tried_beside_what_runs_and_taken_back() {
    let daemon = Daemon::start(SHOP);
    let ran = daemon.tenon("rollout");
    says(&ran, 0, &["every connector is live, as its file says"]);
    let next = SHOP
        .replace(
            "name = \"shop\"",
            "name = \"shop-next\"\n[rollout]\nmode = \"shadow\"\nof = \"shop\"\n",
        )
        .replace("version = \"1.0.0\"\n", "")
        .replace(
            "email = \"$.customer.email | optional\"",
            "email = \"{{ record.customer.email }}!\"",
        )
        .replace("total = \"$.total | decimal\"", "total = \"$.total | decimal(3)\"");
    // One file for both: the canary writes through its original's hand.
    let out = daemon.folder.path().join("out.jsonl");
    let next = next.replace("OUT", out.to_str().expect("a path of text"));
    fs::write(daemon.folder.path().join("connectors/next.toml"), next).expect("written");
    says(&daemon.tenon("reload"), 0, &["shop-next", "added"]);
    daemon.post(&json!({"id": 1, "total": "1.50", "customer": {"email": "a@b.example"}}));
    daemon.until("GET /api/v1/rollouts/shop-next", |list| {
        list["rollouts"][0]["shadow"]["compared"] == 1
    });
    let ran = daemon.tenon("rollout shop-next");
    says(
        &ran,
        1,
        &[
            "shadow of shop",
            "orders: total changed in 1 event",
            "\"1.50\" → \"1.500\"",
            "[redacted]",
        ],
    );
    assert!(!ran.stdout.contains("b.example"), "{}", ran.stdout);
    says(&daemon.tenon("status"), 0, &["running, shadow"]);

    // Flags.
    says(
        &daemon.tenon("flag set shop-next.mode canary --reason OPS-17"),
        0,
        &["is canary (its file says shadow)"],
    );
    says(
        &daemon.tenon("flag set shop.share 100%"),
        0,
        &["shop-next.share is 100% (its file says 10%)"],
    );
    says(&daemon.tenon("flag get shop-next.share"), 0, &["100%\n"]);
    says(&daemon.tenon("flag get shop.share"), 0, &["100%\n"]);
    says(&daemon.tenon("flag get shop.halt"), 2, &["no flag `shop.halt`"]);
    says(&daemon.tenon("flag list"), 0, &["shop-next.mode", "canary", "OPS-17"]);
    says(&daemon.tenon("status"), 0, &["running, canary 100%"]);
    daemon.post(&json!({"id": 2, "total": "2.50", "customer": {"email": "a@b.example"}}));
    daemon.until("GET /api/v1/status", |status| status["unsettled"] == 0);
    assert!(daemon.delivered().contains("\"2.500\""), "{}", daemon.delivered());
    says(
        &daemon.tenon("flag set shop-next.mode live"),
        2,
        &["expected one of `shadow`, `canary`, `off`"],
    );
    says(&daemon.tenon("flag unset shop-next.mode"), 0, &["is shadow, as its file says"]);
    says(&daemon.tenon("flag log"), 0, &["shop-next.mode: shadow → canary  (OPS-17)"]);
    let metrics =
        Daemon::ask(daemon.admin, "GET /metrics", &format!("host: {}\r\n", daemon.admin), "");
    assert!(metrics.1.contains(
        "tenon_rollout_compared_total{connector=\"shop-next\",of=\"shop\",result=\"differing\"} "
    ));

    // An earlier version.
    says(&daemon.tenon("rollback shop"), 2, &["no earlier version of `shop` is kept"]);
    daemon.connector(&SHOP.replace("1.0.0", "1.1.0").replace("decimal", "decimal(4)"));
    says(&daemon.tenon("reload"), 0, &["changed"]);
    says(
        &daemon.tenon("rollback shop --reason OPS-18"),
        0,
        &["`shop` runs 1.0.0 (#1) until its file changes"],
    );
    says(&daemon.tenon("rollback shop --list"), 0, &["runs, rolled back to", "what the file says"]);
    says(&daemon.tenon("reload"), 0, &["rolled back"]);
    says(&daemon.tenon("status"), 0, &["running, rolled back"]);
    daemon.post(&json!({"id": 3, "total": "3.50"}));
    daemon.until("GET /api/v1/status", |status| status["unsettled"] == 0);
    assert!(daemon.delivered().contains("\"3.50\""), "{}", daemon.delivered());
    says(&daemon.tenon("rollback shop --undo"), 0, &["`shop` runs 1.1.0, as its file says"]);
    says(&daemon.tenon("rollback nobody"), 2, &["no file has a connector named `nobody`"]);
}

#[test]
fn history_is_replayed_with_a_dry_run_first() {
    let daemon = Daemon::start(SHOP);
    for id in 1..=3 {
        daemon.post(&json!({"id": id, "total": "1"}));
    }
    daemon.until("GET /api/v1/status", |status| status["unsettled"] == 0);
    assert_eq!(daemon.delivered().lines().count(), 3);
    let ran = daemon.tenon("replay --from -1h --connector shop --dry-run --json");
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(
        (ran.code, &report["matched"], &report["lanes"][0]["same"]),
        (0, &json!(3), &json!(3))
    );
    let ran = daemon.tenon("replay --from -1h --key 2");
    assert!(
        ran.code == 0 && ran.stdout.contains(": done\n  1 of 1 matching event replayed"),
        "{}",
        ran.stderr
    );
    daemon.until("GET /api/v1/status", |status| status["unsettled"] == 0);
    assert_eq!(daemon.delivered().lines().count(), 4);
    assert_eq!(daemon.tenon("replay --from now --to -1h").code, 2);
    let ran = daemon.tenon("replay list --json");
    let list: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let id = list["replays"][0]["id"].as_str().expect("an id");
    assert_eq!(list["replays"][0]["request"]["rate"], "100/s");
    let path = format!("GET /api/v1/replays/{id}");
    daemon.until(&path, |replay| replay["outcomes"]["delivered"] == 1);
    let ran = daemon.tenon(&format!("replay show {id}"));
    assert!(ran.stdout.contains("of 1 delivery: 1 delivered"), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(daemon.tenon(&format!("replay pause {id}")).code, 2, "it has ended");
    assert_eq!(daemon.tenon("replay show rp_000000000000").code, 2);
    assert_eq!(daemon.tenon("replay show 7").code, 2);
}

#[test]
fn letters_are_discarded_on_purpose_only() {
    let daemon = Daemon::start(SHOP);
    for id in 1..=2 {
        daemon.post(&json!({"id": id, "total": []}));
    }
    daemon.until("GET /api/v1/dlq", |list| list["total"] == 2);
    let ran = daemon.tenon("dlq discard --all");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
    assert_eq!(daemon.tenon("dlq discard --yes").code, 2, "neither letters nor filter");
    let (status, answer) = daemon.api("POST /api/v1/dlq/discard", "{}");
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("bad_request")));
    let ran = daemon.tenon("dlq discard --all --yes --limit 1");
    assert_eq!(ran.stdout, "discarded 1 dead letter\n1 more match; run it again\n");
    let ran = daemon.tenon("dlq discard --connector shop --yes");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "discarded 1 dead letter\n"));
    assert_eq!(daemon.tenon("dlq list").stdout, "no dead letters\n");
}

#[test]
fn the_api_is_for_programs_on_this_machine() {
    let daemon = Daemon::start(SHOP);
    let own = format!("host: {}\r\n", daemon.admin);
    let ask = |line: &str, head: &str, body: &str| Daemon::ask(daemon.admin, line, head, body).0;
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/status"] {
        assert_eq!(ask(&format!("GET {path}"), &own, ""), 200, "{path}");
    }
    assert_eq!(ask("GET /api/v1/status", "host: evil.example\r\n", ""), 403);
    assert_eq!(
        ask("POST /api/v1/reload", &format!("{own}origin: http://evil.example\r\n"), ""),
        403
    );
    assert_eq!(ask("POST /api/v1/resume", &own, r#"{"connector":"shop"}"#), 415);
    let json = format!("{own}content-type: application/json\r\n");
    assert_eq!(ask("POST /api/v1/resume", &json, r#"{"connector":"shop"}"#), 200);
    assert_eq!(ask("POST /api/v1/resume", &json, r#"{"connector":"nobody"}"#), 404);
    assert_eq!(ask("POST /api/v1/resume", &json, "{"), 400);
    assert_eq!(ask("POST /api/v1/resume", &json, &" ".repeat(70_000)), 413);
    assert_eq!(ask("GET /", &own, ""), 404);
    let (status, answer) = daemon.api("DELETE /api/v1/dlq/dl_99", "");
    assert_eq!((status, &answer["error"]["message"]), (404, &json!("no dead letter dl_99")));
    let id = "evt_aaaaaaaaaaaaaaaaaaaaaaaaaa";
    assert_eq!(daemon.api(&format!("GET /api/v1/events/{id}"), "").0, 404);
}

#[test]
fn a_bus_in_memory_is_said_aloud() {
    let mut daemon = Daemon::start_with(SHOP, &["--memory"]);
    let line = daemon.logged("the bus is in memory: nothing is durable, a stop loses every event");
    assert_eq!(line["level"], "WARN");
    daemon.post(&json!({"id": 1, "total": "1"}));
    daemon.until("GET /api/v1/status", |status| status["unsettled"] == 0);
    assert!(!daemon.folder.path().join("state").exists());
}

#[test]
fn hang_up_reloads() {
    let daemon = Daemon::start(SHOP);
    let is_at =
        |generation: u64| move |status: &Value| status["connectors"][0]["generation"] == generation;
    daemon.until("GET /api/v1/status", is_at(1));
    daemon.connector(&SHOP.replace("1.0.0", "1.0.1"));
    daemon.signal("-HUP");
    daemon.until("GET /api/v1/status", is_at(2));
}

#[test]
fn a_second_signal_does_not_wait_for_laggards() {
    // A destination that takes the request and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/orders", silent.local_addr().expect("an address"));
    let to_http = format!("type = \"http\"\nmethod = \"POST\"\nurl = \"{url}\"");
    let mut daemon = Daemon::start(&SHOP.replace("type = \"file\"\npath = \"OUT\"", &to_http));
    daemon.post(&json!({"id": 1, "total": "1"}));
    let _held = silent.accept().expect("an attempt");
    daemon.signal("-TERM");
    daemon.logged("shutting down: connectors");
    daemon.signal("-TERM");
    assert_eq!(daemon.child.wait().expect("it ends").code(), Some(130));
}

/// A connector whose destination wants a person to log in at ISSUER.
const GUARDED: &str = r#"name = "shop"
version = "1.0.0"
stream.orders.key = "$.id"
stream.orders.webhook = { path = "/shop/orders", verify = "none" }
destination.erp = { type = "http", url = "ISSUER/orders", auth = "erp" }

[auth.erp]
type = "oauth2"
grant = "authorization_code"
client_id = "tenon"
authorize_url = "https://login.example/authorize"
token_url = "ISSUER/token"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_and_what_was_held_goes_on() {
    let issuer = crate::support::MockServer::start(|seen| match seen.path() {
        "/token" if seen.text().contains("code=c0de") => crate::support::Reply::json(
            json!({"access_token": "t0ken-s3cret", "refresh_token": "r-s3cret"}),
        ),
        "/orders" if seen.header("authorization") == Some("Bearer t0ken-s3cret") => {
            crate::support::Reply::status(204)
        }
        _ => crate::support::Reply::status(403),
    })
    .await;
    let text = GUARDED.replace("ISSUER", issuer.url("").trim_end_matches('/'));
    let asked = tokio::task::spawn_blocking(move || {
        let daemon = Daemon::start(&text);
        daemon.post(&json!({"id": 1}));
        let held = |status: &Value| status.to_string().contains("tenon auth login shop erp");
        daemon.until("GET /api/v1/status", held);
        let ran = daemon.tenon("auth status");
        assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.stdout, "shop  erp  run `tenon auth login shop erp`\n");

        let mut login = program::tenon(Path::new("."));
        login.env("TENON_ADMIN", daemon.admin.to_string()).args(["auth", "login", "shop"]);
        let mut login = login.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut page = String::new();
        BufReader::new(login.stdout.take().unwrap()).read_line(&mut page).unwrap();
        let page = url::Url::parse(page.trim()).unwrap();
        let parameter = |name: &str| {
            page.query_pairs().find(|(known, _)| known == name).unwrap().1.into_owned()
        };
        let back = url::Url::parse(&parameter("redirect_uri")).unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], back.port().unwrap()));
        assert_eq!(Daemon::ask(to, "GET /favicon.ico", "", "").0, 404);
        assert_eq!(Daemon::ask(to, "GET /callback?code=c0de&state=other", "", "").0, 400);
        let line = format!("GET /callback?code=c0de&state={}", parameter("state"));
        let (status, said) = Daemon::ask(to, &line, "", "");
        assert!(status == 200 && said.contains("You are logged in"), "{said}");
        let ended = login.wait_with_output().unwrap();
        let note = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.success(), "{note}");
        assert!(note.contains("logged in: auth erp of `shop`, 1 hold lifted"), "{note}");
        assert_eq!(daemon.tenon("auth status").stdout, "shop  erp  logged in\n");
        let done = |status: &Value| status.to_string().contains("\"backlog\":0");
        daemon.until("GET /api/v1/status", done);
    });
    asked.await.unwrap();
    assert!(issuer.seen().iter().any(|seen| seen.path() == "/orders"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_cannot_be_renewed_is_none_once_it_has_ended() {
    let issuer = crate::support::MockServer::start(|_| {
        crate::support::Reply::json(json!({"access_token": "t0ken-s3cret", "expires_in": 1}))
    })
    .await;
    let text = GUARDED.replace("ISSUER", issuer.url("").trim_end_matches('/'));
    let asked = tokio::task::spawn_blocking(move || {
        let daemon = Daemon::start(&text);
        let begin = json!({"connector": "shop", "redirect": "http://127.0.0.1:9/callback"});
        let (_, begun) = daemon.api("POST /api/v1/auth/begin", &begin.to_string());
        let page = url::Url::parse(begun["url"].as_str().expect("a page")).expect("an address");
        let state = page.query_pairs().find(|(name, _)| name == "state").expect("a state").1;
        let finish = json!({"connector": "shop", "auth": "erp", "code": "c0de", "state": state});
        assert_eq!(daemon.api("POST /api/v1/auth/finish", &finish.to_string()).0, 200);
        daemon.until("GET /api/v1/auth", |list| list["logins"][0]["state"] == "logged_out");
        let ran = daemon.tenon("auth status");
        let said = "shop  erp  the login ended at ";
        assert!(ran.code == 1 && ran.stdout.starts_with(said), "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.ends_with(": run `tenon auth login shop erp`\n"), "{}", ran.stdout);
    });
    asked.await.unwrap();
}

#[test]
fn a_wrong_name_is_said_by_whoever_is_asked_for_it() {
    let daemon = Daemon::start(SHOP);
    let next =
        SHOP.replace("\"shop\"", "\"shop-next\"") + "[rollout]\nmode = \"shadow\"\nof = \"shop\"\n";
    for (line, code, said) in [
        ("dlq list --connector nope", 0, "no dead letter matches\n"),
        ("state show nope", 0, "nothing is remembered of `nope`\n"),
        ("state export a?b", 2, "error: `a?b` is no connector's name: "),
        ("rollback nope --list", 1, "no version of `nope` is kept\n"),
        ("rollback a?b --list", 2, "error: invalid value 'a?b' for '<CONNECTOR>'"),
        ("status shopp", 2, "error: the daemon has no connector `shopp`; there is `shop`\n"),
        ("status other", 2, "error: the daemon has no connector `other`\n"),
        ("resume shop nope", 2, "error: `shop` has no destination or polled stream `nope`\n"),
        ("resume shop out", 1, "nothing of `shop` was held\n"),
        ("rollout nope", 2, "error: no connector named `nope` runs\n"),
        ("rollout shop", 2, "error: `shop` is live, as its file says, and has no variant\n"),
        ("rollout shop?x", 2, "error: invalid value 'shop?x' for '[CONNECTOR]'"),
        ("trace evt_x", 2, "error: `evt_x` is no event's id: expected `evt_` and 26 letters"),
        ("replay show rp_x", 2, "error: invalid value 'rp_x' for '<ID>': expected a replay's id"),
    ] {
        let ran = daemon.tenon(line);
        assert_eq!(ran.code, code, "{line}: {}", ran.stderr);
        assert!(ran.stdout.is_empty() && ran.stderr.starts_with(said), "{line}: {}", ran.stderr);
    }
    // Who asks for an original sees what is tried beside it.
    let next = next.replace("OUT", daemon.folder.path().join("next.jsonl").to_str().expect("text"));
    fs::write(daemon.folder.path().join("connectors/next.toml"), next).expect("written");
    daemon.tenon("reload");
    let ran = daemon.tenon("rollout shop");
    assert!(ran.stdout.starts_with("shop-next  shadow of shop\n"), "{} {}", ran.stdout, ran.stderr);
}
