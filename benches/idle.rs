//! What 10,000 idle connectors cost: resident memory, start-up, processor time, and the reload of
//! one changed file among them.

mod support;

use std::time::{Duration, Instant};

use support::Daemon;

const CONNECTORS: u64 = 10_000;

/// How long processor time is counted.
const WATCHED: Duration = Duration::from_secs(20);

fn connector(number: u64, version: u64) -> String {
    format!(
        r#"
name = "idle-{number}"
version = "1.0.{version}"
owner = "bench"

[source]
base = "http://127.0.0.1:9/api"

[schedule]
cron = "0 3 1 1 *"

[stream.orders]
key = "$.id"
revision = "$.updated_at | timestamp"

[stream.orders.webhook]
path = "/idle/{number}"
verify = "github"
secret = "{{{{ secret.BENCH_HOOK }}}}"

[stream.orders.poll]
path = "/orders.json"
records = "$.orders[*]"
page = {{ by = "link", size = 250, size_param = "limit" }}

[stream.orders.map]
id = "shop:{{{{ record.id }}}}"
number = "$.name"
placed_at = "$.created_at | timestamp"
total = "$.total_price | decimal"
customer.email = "$.customer.email | optional"

[destination.sink]
type = "http"
url = "http://127.0.0.1:9/in/{{{{ out.id }}}}"
"#
    )
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    let full = folder.path().join("full");
    for path in [&empty, &full] {
        std::fs::create_dir(path).unwrap();
    }
    std::fs::write(empty.join("one.toml"), connector(0, 0)).unwrap();
    for number in 0..CONNECTORS {
        std::fs::write(full.join(format!("c{number}.toml")), connector(number, 0)).unwrap();
    }

    let one = Daemon::start(&empty, &folder.path().join("s1"), &["--log-level", "warn"]);
    let base_kib = one.resident_kib();
    println!("one connector: ready after {:?}, {base_kib} KiB resident", one.started_in);
    drop(one);

    let all = Daemon::start(&full, &folder.path().join("s2"), &["--log-level", "warn"]);
    let kib = all.resident_kib();
    println!(
        "{CONNECTORS} connectors: ready after {:?}, {:.0} MiB resident, {:.1} KiB a connector",
        all.started_in,
        kib as f64 / 1024.0,
        (kib - base_kib) as f64 / CONNECTORS as f64
    );
    for what in ["at first, while versions are stored", "idle"] {
        let cpu = all.cpu();
        std::thread::sleep(WATCHED);
        let share = all.cpu().saturating_sub(cpu).as_secs_f64() / WATCHED.as_secs_f64();
        println!("{what}: {:.2} % of a core", share * 100.0);
    }

    let full_load = all.started_in.as_secs_f64();
    let percent = |took: Duration| took.as_secs_f64() / full_load * 100.0;
    for version in 1..=3 {
        std::fs::write(full.join("c5000.toml"), connector(5000, version)).unwrap();
        let began = Instant::now();
        let (status, report) = all.admin("POST", "/api/v1/reload");
        let took = began.elapsed();
        assert_eq!(status, 200, "{report}");
        assert!(report.contains(r#""changed":["idle-5000"]"#), "{report}");
        println!(
            "reload of one changed file, asked for: {took:?}, {:.2} % of the full load",
            percent(took)
        );
    }
    for version in 4..=6 {
        let before = reloads(&all);
        std::fs::write(full.join("c5000.toml"), connector(5000, version)).unwrap();
        while reloads(&all) <= before {
            std::thread::sleep(Duration::from_millis(20));
        }
        let took = Duration::from_secs_f64(metric(&all, "tenon_reload_seconds"));
        println!(
            "reload of one changed file, found by the watcher: {took:?}, {:.2} % of the full load",
            percent(took)
        );
    }
    println!("resident after it: {:.0} MiB", all.resident_kib() as f64 / 1024.0);
}

fn metric(daemon: &Daemon, name: &str) -> f64 {
    let (_, metrics) = daemon.admin("GET", "/metrics");
    let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn reloads(daemon: &Daemon) -> f64 {
    metric(daemon, "tenon_reloads_total{result=\"ok\"}")
}
