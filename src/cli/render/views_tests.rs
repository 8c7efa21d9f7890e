//! The looks of all views, over fixed data.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{
    admin::api::{BulkFailure, DeadLine, StepView},
    bus::embedded::doctor::Finding,
    engine::{
        CanaryStatus, HaltStatus, JobStatus, ReconcileStatus, RolloutStatus, SkewStatus, Status,
        WebhookStatus,
    },
    observe::slo::{Burn, Goal, Severity},
};

const NOW: Timestamp = Timestamp(1_795_341_600_000);

fn ago(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 - seconds * 1000)
}

fn some_status() -> StatusView {
    let shop = ConnectorStatus {
        name: "shop".to_owned(),
        version: "2.1.0".to_owned(),
        owner: Some("commerce".to_owned()),
        file: "connectors/shop.toml".into(),
        state: "running".to_owned(),
        generation: 3,
        problem: None,
        streams: vec![
            StreamStatus {
                name: "orders".to_owned(),
                webhook: Some("/shop/orders".to_owned()),
                next_poll: Some(ago(-120)),
                last_poll: Some(ago(180)),
                last_poll_result: Some("ok".to_owned()),
                cursor: Some("2026-11-22T09:50:00Z".to_owned()),
                webhooks: Some(WebhookStatus {
                    last: Some(ago(12_000)),
                    silent: true,
                    missed_since: Some(ago(11_000)),
                    missed: 40,
                }),
                reconcile: Some(ReconcileStatus {
                    state: "done".to_owned(),
                    began_at: Some(ago(3600)),
                    read: 1210,
                    known: 1198,
                    found: 2,
                    next: Some(ago(-82_800)),
                    ..ReconcileStatus::default()
                }),
                clocks: vec![SkewStatus {
                    from: "webhook".to_owned(),
                    millis: -602_000,
                    off: true,
                }],
                ..StreamStatus::default()
            },
            StreamStatus { name: "refunds".to_owned(), ..StreamStatus::default() },
        ],
        destinations: vec![DestinationStatus {
            name: "erp".to_owned(),
            kind: "http".to_owned(),
            backlog: 1204,
            oldest: Some(ago(200)),
            held: None,
            breaker: None,
        }],
        rollout: None,
        slo: Vec::new(),
    };
    let crm = ConnectorStatus {
        name: "crm-eu".to_owned(),
        version: "1.0.0".to_owned(),
        state: "held".to_owned(),
        generation: 1,
        problem: Some("destination crm: 401 after a fresh token\nask who owns the key".to_owned()),
        ..ConnectorStatus::default()
    };
    StatusView {
        status: Status {
            version: "0.1.0".to_owned(),
            started_at: ago(7200),
            state: "running".to_owned(),
            refusing: Some("no space left on device".to_owned()),
            unsettled: 1204,
            dead_letters: 1,
            disk_bytes: 12 << 20,
            disk_limit_bytes: 10 << 30,
            connectors: vec![crm, shop],
        },
        dead_by_connector: BTreeMap::from([("shop".to_owned(), 1)]),
    }
}

fn some_event() -> EventView {
    EventView {
        id: "evt_aaaqeayeaudaocajbifqydiob4".to_owned(),
        connector: "shop".to_owned(),
        stream: "orders".to_owned(),
        key: "1001".to_owned(),
        revision: "2026-11-22T09:58:57Z".to_owned(),
        tenant: Some("acme".to_owned()),
        revision_at: Some(ago(63)),
        received_at: ago(60),
        origin: "webhook".to_owned(),
        delete: false,
        to: vec!["erp".to_owned()],
        traceparent: None,
    }
}

#[test]
fn status_is_a_headline_a_table_and_the_problems() {
    insta::assert_snapshot!(status(&some_status(), NOW, Style::default()), @r"
    tenon 0.1.0 running for 2h · 2 connectors · 1204 unsettled · 1 dead letter · journal 12.0 MiB of 10.0 GiB
    takes no events: no space left on device

    CONNECTOR  VERSION  STATE    BACKLOG  OLDEST  DEAD  NEXT POLL
    crm-eu     1.0.0    held           0             0
    shop       2.1.0    running     1204      3m     1  in 2m

    crm-eu: destination crm: 401 after a fresh token
        ask who owns the key
    ");
}

#[test]
fn one_connector_in_detail() {
    let mut view = some_status();
    view.status.connectors.remove(0);
    insta::assert_snapshot!(connectors_in_detail(&view, NOW), @r"
    connector     shop
    version       2.1.0
    owner         commerce
    file          connectors/shop.toml
    state         running
    generation    3
    dead letters  1

    STREAM   WEBHOOK       LAST POLL  RESULT  NEXT POLL  CURSOR
    orders   /shop/orders  3m ago     ok      in 2m      2026-11-22T09:50:00Z
    refunds

    RECONCILED  STATE  LAST    READ  KNOWN  FOUND  NEXT
    orders      done   1h ago  1210   1198      2  in 23h

    orders: webhooks are missing: the last came 3h ago, polls found 40 since
    orders: the clock of whoever signs its webhooks is 10m 2s behind ours

    DESTINATION  TYPE  BACKLOG  OLDEST  HELD
    erp          http     1204      3m
    ");
}

#[test]
fn a_poll_that_waits_for_a_job_says_since_when() {
    let job = |count| StreamStatus {
        last_poll_result: Some("ok".to_owned()),
        job: Some(JobStatus { count, since: ago(750) }),
        ..StreamStatus::default()
    };
    assert_eq!(result_of(&job(1), NOW), "waits for a job for 12m");
    assert_eq!(result_of(&job(3), NOW), "waits for 3 jobs, the first for 12m");
}

#[test]
fn partitions_in_detail() {
    let mut view = some_status();
    let shop = &mut view.status.connectors[1];
    shop.destinations.clear();
    shop.streams[1].partitions = Some(PartitionStatus {
        count: 1204,
        failing: 2,
        first_failing: Some("project=17".to_owned()),
        first_failure: Some(
            "GET https://api.example/projects/17 answered 404 Not Found".to_owned(),
        ),
        oldest: Some("project=3".to_owned()),
        oldest_cursor: Some("2026-11-01T00:00:00Z".to_owned()),
        under_way: true,
    });
    let shown = connectors_in_detail(&view, NOW);
    let shown = shown.split("\n\n").last().unwrap();
    insta::assert_snapshot!(shown, @r"
    STREAM    PARTITIONS  FAILING  FURTHEST BACK                    FIRST FAILURE
    refunds  1204 so far        2  project=3: 2026-11-01T00:00:00Z  project=17: GET https://api.example/projects/17 answered 404 Not Found
    ");
}

#[test]
fn a_trace_is_who_and_then_what_happened() {
    let step = |at, destination: Option<&str>, what: &str, detail: &str| StepView {
        at,
        destination: destination.map(str::to_owned),
        what: what.to_owned(),
        detail: detail.to_owned(),
    };
    let view = TraceView {
        id: some_event().id,
        runs: vec![TraceRun {
            seq: 7,
            event: some_event(),
            steps: vec![
                step(ago(60), None, "accepted", ""),
                step(ago(59), Some("erp"), "retry", "attempt 1: 503"),
                step(ago(57), Some("erp"), "delivered", "attempt 2: 201"),
            ],
            body: Some(BodyView::Record(json!({"id": 1001, "email": "[redacted]"}))),
        }],
    };
    insta::assert_snapshot!(trace(&view), @r#"
    event     evt_aaaqeayeaudaocajbifqydiob4
    stream    shop/orders
    key       1001
    revision  2026-11-22T09:58:57Z
    tenant    acme
    received  2026-11-22T09:59:00.000Z by webhook, 3s after its revision's time

    AT                        WHAT       DESTINATION  DETAIL
    2026-11-22T09:59:00.000Z  accepted
    2026-11-22T09:59:01.000Z  retry      erp          attempt 1: 503
    2026-11-22T09:59:03.000Z  delivered  erp          attempt 2: 201

    {
      "id": 1001,
      "email": "[redacted]"
    }
    "#);
}

#[test]
fn dead_letters_as_a_list_and_one_whole() {
    let line = DeadLine {
        id: "dl_12".to_owned(),
        event: some_event().id,
        connector: "shop".to_owned(),
        stream: "orders".to_owned(),
        destination: "erp".to_owned(),
        died_at: ago(3600),
        reason: "map_failed".to_owned(),
        variant: None,
    };
    let list = DeadList { letters: vec![line], total: 3 };
    insta::assert_snapshot!(dead_list(&list, NOW), @r"
    ID     STREAM       DESTINATION  REASON      DIED    EVENT
    dl_12  shop/orders  erp          map_failed  1h ago  evt_aaaqeayeaudaocajbifqydiob4
    … and 2 older ones (--limit)
    ");
    assert_eq!(dead_list(&DeadList { letters: vec![], total: 0 }, NOW), "no dead letters\n");

    let letter = DeadView {
        id: "dl_12".to_owned(),
        destination: "erp".to_owned(),
        died_at: ago(3600),
        reason: "map_failed".to_owned(),
        message: "`$.total | decimal`: expected digits, found an object (shop.toml:31)".to_owned(),
        attempts: 0,
        status: None,
        variant: None,
        event: some_event(),
        body: Some(BodyView::Withheld("connector `shop` is not loaded".to_owned())),
    };
    insta::assert_snapshot!(dead_letter(&letter), @r"
    dead letter  dl_12
    reason       map_failed
    message      `$.total | decimal`: expected digits, found an object (shop.toml:31)
    destination  erp
    died         2026-11-22T09:00:00.000Z
    attempts     0
    event        evt_aaaqeayeaudaocajbifqydiob4
    stream       shop/orders
    key          1001
    revision     2026-11-22T09:58:57Z
    tenant       acme
    received     2026-11-22T09:59:00.000Z by webhook, 3s after its revision's time

    record withheld: connector `shop` is not loaded
    ");
}

#[test]
fn bulk_work_says_what_is_left() {
    let report = BulkReport {
        matched: 5,
        done: vec!["dl_1".to_owned(), "dl_2".to_owned()],
        failed: vec![BulkFailure { id: "dl_3".to_owned(), message: "no such stream".to_owned() }],
        dry_run: false,
        more: true,
    };
    insta::assert_snapshot!(bulk(&report, "replay"), @r"
    replayed 2 dead letters
    dl_3: no such stream
    2 more match; run it again
    ");
    let report = BulkReport { dry_run: true, more: false, failed: vec![], ..report };
    insta::assert_snapshot!(bulk(&report, "discard"), @r"
    would discard 2 dead letters
      dl_1
      dl_2
    ");
}

#[test]
fn a_reload_names_what_moved() {
    let report = ReloadReport {
        added: vec!["crm".to_owned()],
        changed: vec!["shop".to_owned()],
        failed: vec!["broken.toml".to_owned()],
        unchanged: 9998,
        generations: BTreeMap::from([("crm".to_owned(), 1), ("shop".to_owned(), 4)]),
        took_ms: 12,
        ..ReloadReport::default()
    };
    insta::assert_snapshot!(reload(&report, Style::default()), @r"
    CONNECTOR    RELOAD   GENERATION
    crm          added             1
    shop         changed           4
    broken.toml  failed
    9998 unchanged, 12 ms
    ");
}

#[test]
fn a_state_folder_is_whole_or_what_is_wrong_with_it() {
    let mut report = DoctorReport {
        segments: 2,
        bytes: 3 << 20,
        records: 12,
        events: 10,
        settlements: 7,
        unsettled: 3,
        ..DoctorReport::default()
    };
    insta::assert_snapshot!(doctor(&report, false), @r"
    12 records in 2 segments (3.0 MiB): 10 events, 7 settlements, 0 dead letters; 3 unsettled
    nothing is wrong
    ");
    report.findings.push(Finding {
        file: "journal/0000000002.seg".to_owned(),
        what: "torn_tail".to_owned(),
        detail: "bytes 4096 to 4133".to_owned(),
        repair: "cut off".to_owned(),
    });
    insta::assert_snapshot!(doctor(&report, true), @r"
    12 records in 2 segments (3.0 MiB): 10 events, 7 settlements, 0 dead letters; 3 unsettled
    journal/0000000002.seg: torn_tail, bytes 4096 to 4133
        repaired: cut off
    ");
}

#[test]
fn sizes_have_the_unit_that_fits() {
    assert_eq!(bytes(0), "0 B");
    assert_eq!(bytes(1023), "1023 B");
    assert_eq!(bytes(1536), "1.5 KiB");
    assert_eq!(bytes(10 << 30), "10.0 GiB");
}

#[test]
fn promises_are_shown_in_detail_and_a_burning_one_at_a_glance() {
    let mut view = some_status();
    view.status.connectors.remove(0);
    let burn = |severity, long_s, factor, long_rate| Burn {
        severity,
        long_s,
        short_s: long_s / 12,
        factor,
        long_rate,
        short_rate: long_rate,
        is_on: long_rate >= factor,
    };
    let kept = |goal, target, bound_ms, bad, budget_left, rate| Kept {
        goal,
        target,
        bound_ms,
        window_s: 30 * 86_400,
        events: 12_000,
        bad,
        ratio: Some(1.0 - bad as f64 / 12_000.0),
        budget_left,
        burns: vec![
            burn(Severity::Page, 3600, 14.4, rate),
            burn(Severity::Ticket, 259_200, 1.0, rate),
        ],
    };
    view.status.connectors[0].slo = vec![
        kept(Goal::Success, 0.999, None, 24, -1.0, 16.0),
        kept(Goal::Latency, 0.99, Some(2500), 30, 0.75, 0.25),
    ];
    let detail = connectors_in_detail(&view, NOW);
    let table = detail.split("\n\n").last().unwrap_or_default();
    insta::assert_snapshot!(table);
    let glance = status(&view, NOW, Style::default());
    let last = glance.lines().last();
    assert_eq!(last, Some("shop: the error budget of success burns, nothing of it is left"));
}

#[test]
fn what_a_flag_decided_is_told_from_what_the_file_says() {
    let shown = |state: &str, mode: &str, mode_by_flag, canary: Option<(bool, bool)>| {
        let canary = canary.map(|(share_by_flag, is_halted)| CanaryStatus {
            share: "10%".to_owned(),
            share_by_flag,
            halted: is_halted.then(HaltStatus::default),
            ..CanaryStatus::default()
        });
        let mode = mode.to_owned();
        let rollout = Some(RolloutStatus { mode, mode_by_flag, canary, ..Default::default() });
        let state = state.to_owned();
        state_of(&ConnectorStatus { state, rollout, ..ConnectorStatus::default() })
    };
    for (text, given) in [
        ("off", ("off", "off", false, None)),
        ("off (by flag)", ("off", "off", true, None)),
        ("running", ("running", "live", false, None)),
        ("running, live (by flag)", ("running", "live", true, None)),
        ("running, shadow", ("running", "shadow", false, None)),
        ("running, shadow (by flag)", ("running", "shadow", true, None)),
        ("running, canary 10%", ("running", "canary", false, Some((false, false)))),
        ("running, canary 10% (by flag)", ("running", "canary", false, Some((true, false)))),
        ("running, canary 10% (by flag)", ("running", "canary", true, Some((false, false)))),
        ("halted, canary", ("halted", "canary", false, Some((true, true)))),
        ("halted, canary (by flag)", ("halted", "canary", true, Some((true, true)))),
    ] {
        let (state, mode, by_flag, canary) = given;
        assert_eq!(shown(state, mode, by_flag, canary), text, "{given:?}");
    }
}
