//! What rollouts, flags and kept versions look like. Pure.

use std::fmt::Write as _;

use super::table::{Cell, Style, table};
use crate::{
    cli::when::short,
    diagnostic::counted,
    engine::{
        CanaryStatus, Counts, FieldReport, FlagStatus, KeptVersion, RolloutEntry, RolloutStatus,
        ShadowReport,
    },
    world::Timestamp,
};

/// A connector's rollout in a line.
pub fn rollout_line(rollout: &RolloutStatus) -> String {
    let by_flag = if rollout.mode_by_flag { " (by flag)" } else { "" };
    let mut line = match (&rollout.of, &rollout.canary) {
        (Some(of), Some(canary)) => format!("{}{by_flag} of {of}, {}", rollout.mode, share(canary)),
        (Some(of), None) => format!("{}{by_flag} of {of}", rollout.mode),
        (None, _) => format!("{}{by_flag}", rollout.mode),
    };
    if let Some(pin) = &rollout.pinned {
        let _ =
            write!(line, "; rolled back to {} by {} at {}", pin.version, pin.by, pin.at.rfc3339());
        if let Some(why) = &pin.why {
            let _ = write!(line, ": {why}");
        }
    }
    line
}

fn share(canary: &CanaryStatus) -> String {
    let by_flag = if canary.share_by_flag { " (by flag)" } else { "" };
    format!("{} of the keys{by_flag}", canary.share)
}

/// Every variant, with what it does beside its original.
pub fn rollouts(all: &[RolloutStatus], now: Timestamp) -> String {
    if all.is_empty() {
        return "every connector is live, as its file says\n".to_owned();
    }
    let parts = all.iter().map(|rollout| {
        let mut out = format!("{}  {}\n", rollout.connector, rollout_line(rollout));
        if let Some(canary) = &rollout.canary {
            out.push_str(&canary_lines(canary));
        }
        if let Some(shadow) = &rollout.shadow {
            out.push_str(&shadow_lines(shadow, now));
        }
        out
    });
    parts.collect::<Vec<_>>().join("\n")
}

fn canary_lines(canary: &CanaryStatus) -> String {
    let mut out = String::new();
    if let Some(halt) = &canary.halted {
        let at = halt.at.map(|at| format!(" at {}", at.rfc3339())).unwrap_or_default();
        let _ = writeln!(out, "  halted{at}: {}", halt.why);
        out.push_str(
            "  its keys go through the original until its file changes or a flag is set\n",
        );
    }
    let within = short(std::time::Duration::from_secs(canary.within_s));
    let side = |word: &str, counts: &Counts| {
        let Counts { attempts, failed, dead, late, .. } = counts;
        let late = if *late > 0 { format!(", {late} late") } else { String::new() };
        let attempts = counted(*attempts, "attempt");
        format!("  {word:<8}  {attempts} within {within}: {failed} failed, {dead} dead{late}\n")
    };
    out.push_str(&side("canary", &canary.canary));
    out.push_str(&side("original", &canary.original));
    out
}

fn shadow_lines(report: &ShadowReport, now: Timestamp) -> String {
    let since = short(now.since(report.since));
    let mut out = format!(
        "  {} compared in {since}: {} the same, {} differ, {} fail here alone\n",
        counted(report.compared, "event"),
        report.same,
        report.differing,
        report.failing,
    );
    for (count, what) in [
        (report.mended, "fail in the original alone"),
        (report.both_failing, "fail in both"),
        (report.left_out, "left out: they came faster than is compared"),
    ] {
        if count > 0 {
            let _ = writeln!(out, "  {count} {what}");
        }
    }
    for field in &report.fields {
        out.push_str(&field_lines(field));
    }
    if report.further_differences > 0 {
        let further = counted(report.further_differences, "difference");
        let _ = writeln!(out, "  … and {further} in further fields");
    }
    for failure in &report.failures {
        let events = counted(failure.events, "event");
        let _ = writeln!(out, "\n  {}: {} in {events}", failure.stream, failure.reason);
        let _ = writeln!(out, "    {} ({})", failure.message, failure.event);
    }
    out
}

fn field_lines(field: &FieldReport) -> String {
    let kinds = [(field.changed, "changed"), (field.missing, "missing"), (field.added, "added")];
    let kinds: Vec<String> = kinds
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{what} in {}", counted(count, "event")))
        .collect();
    let name = if field.field.is_empty() { "(the whole document)" } else { &field.field };
    let mut out = format!("\n  {}: {name} {}\n", field.stream, kinds.join(", "));
    for sample in &field.samples {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        let (original, shadow) = (value(&sample.original), value(&sample.shadow));
        let _ = writeln!(out, "    {original} → {shadow}  {}", sample.event);
    }
    out
}

/// Flags in a table.
pub fn flags(all: &[FlagStatus], now: Timestamp) -> String {
    if all.is_empty() {
        return "no flags are set\n".to_owned();
    }
    let text = |text: &Option<String>| -> Cell { text.clone().unwrap_or_default().into() };
    let rows: Vec<Vec<Cell>> = all
        .iter()
        .map(|flag| {
            let set = flag.at.map(|at| format!("{} ago", short(now.since(at))));
            vec![
                flag.flag.clone().into(),
                text(&flag.value),
                text(&flag.file),
                text(&set),
                text(&flag.by),
                text(&flag.why),
            ]
        })
        .collect();
    table(&["FLAG", "VALUE", "FILE", "SET", "BY", "WHY"], &[], &rows, Style::default())
}

/// Who changed what.
pub fn rollout_log(entries: &[RolloutEntry]) -> String {
    if entries.is_empty() {
        return "nothing was changed\n".to_owned();
    }
    let mut out = String::new();
    for entry in entries {
        let RolloutEntry { at, by, connector, what, from, to, why } = entry;
        let text =
            |value: &Option<String>| value.clone().unwrap_or_else(|| "its file's".to_owned());
        let _ = write!(
            out,
            "{}  {by}  {connector}.{what}: {} → {}",
            at.rfc3339(),
            text(from),
            text(to)
        );
        let _ =
            writeln!(out, "{}", why.as_ref().map(|why| format!("  ({why})")).unwrap_or_default());
    }
    out
}

/// The versions that are kept of a connector.
pub fn versions(all: &[KeptVersion], now: Timestamp) -> String {
    let rows: Vec<Vec<Cell>> = all
        .iter()
        .map(|version| {
            let what = match (version.is_running, version.is_file) {
                (true, true) => "runs",
                (true, false) => "runs, rolled back to",
                (false, true) => "what the file says",
                (false, false) => "",
            };
            vec![
                format!("#{}", version.number).into(),
                version.version.clone().into(),
                format!("{} ago", short(now.since(version.since))).into(),
                version.file.clone().into(),
                what.into(),
            ]
        })
        .collect();
    table(&["KEPT", "VERSION", "BEGAN", "FILE", ""], &[], &rows, Style::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{FailureReport, FieldSample, HaltStatus, PinStatus};

    const NOW: Timestamp = Timestamp(1_795_341_600_000);

    fn ago(seconds: u64) -> Timestamp {
        NOW.minus(std::time::Duration::from_secs(seconds))
    }

    #[test]
    fn a_shadow_shows_the_field_that_differs() {
        let sample = |n: u32| FieldSample {
            event: format!("evt_{n}"),
            original: Some("\"129.90\"".to_owned()),
            shadow: (n == 1).then(|| "129.9".to_owned()),
        };
        let report = ShadowReport {
            since: ago(600),
            compared: 12,
            same: 3,
            differing: 8,
            failing: 1,
            left_out: 4,
            fields: vec![FieldReport {
                stream: "orders".to_owned(),
                field: "total".to_owned(),
                changed: 7,
                missing: 1,
                samples: vec![sample(1), sample(2)],
                ..FieldReport::default()
            }],
            failures: vec![FailureReport {
                stream: "orders".to_owned(),
                reason: "map_failed".to_owned(),
                message: "stream.orders.map.id: `$.di` finds nothing (next.toml:12)".to_owned(),
                events: 1,
                event: "evt_3".to_owned(),
            }],
            ..ShadowReport::default()
        };
        let rollout = RolloutStatus {
            connector: "shop-next".to_owned(),
            mode: "shadow".to_owned(),
            of: Some("shop".to_owned()),
            shadow: Some(report),
            ..RolloutStatus::default()
        };
        insta::assert_snapshot!(rollouts(&[rollout], NOW), @r#"
        shop-next  shadow of shop
          12 events compared in 10m: 3 the same, 8 differ, 1 fail here alone
          4 left out: they came faster than is compared

          orders: total changed in 7 events, missing in 1 event
            "129.90" → 129.9  evt_1
            "129.90" → nothing  evt_2

          orders: map_failed in 1 event
            stream.orders.map.id: `$.di` finds nothing (next.toml:12) (evt_3)
        "#);
    }

    #[test]
    fn a_halted_canary_says_why_and_what_becomes_of_its_keys() {
        let counts =
            |attempts, failed| Counts { attempts, failed, dead: failed, ..Counts::default() };
        let canary = CanaryStatus {
            share: "25%".to_owned(),
            share_by_flag: true,
            halted: Some(HaltStatus {
                at: Some(ago(60)),
                why: "20 of its 20 attempts failed".to_owned(),
            }),
            within_s: 600,
            canary: counts(20, 20),
            original: counts(1, 0),
        };
        let rollout = RolloutStatus {
            connector: "shop-next".to_owned(),
            mode: "canary".to_owned(),
            of: Some("shop".to_owned()),
            canary: Some(canary),
            ..RolloutStatus::default()
        };
        let pinned = RolloutStatus {
            connector: "crm".to_owned(),
            mode: "live".to_owned(),
            pinned: Some(PinStatus {
                version: "1.0.0".to_owned(),
                at: ago(3_600),
                by: "ada".to_owned(),
                why: Some("duplicates".to_owned()),
            }),
            ..RolloutStatus::default()
        };
        insta::assert_snapshot!(rollouts(&[rollout, pinned], NOW), @r"
        shop-next  canary of shop, 25% of the keys (by flag)
          halted at 2026-11-22T09:59:00.000Z: 20 of its 20 attempts failed
          its keys go through the original until its file changes or a flag is set
          canary    20 attempts within 10m: 20 failed, 20 dead
          original  1 attempt within 10m: 0 failed, 0 dead

        crm  live; rolled back to 1.0.0 by ada at 2026-11-22T09:00:00.000Z: duplicates
        ");
    }

    #[test]
    fn flags_log_and_versions() {
        let set = FlagStatus {
            flag: "shop-next.share".to_owned(),
            of: Some("shop".to_owned()),
            value: Some("25%".to_owned()),
            file: Some("10%".to_owned()),
            at: Some(ago(90)),
            by: Some("ada".to_owned()),
            why: Some("looks well".to_owned()),
        };
        let unset = FlagStatus {
            flag: "shop-next.mode".to_owned(),
            file: Some("canary".to_owned()),
            ..FlagStatus::default()
        };
        let entry = |what: &str, from: &str, to: Option<&str>, why: Option<&str>| RolloutEntry {
            at: NOW,
            by: "ada".to_owned(),
            connector: "shop-next".to_owned(),
            what: what.to_owned(),
            from: Some(from.to_owned()),
            to: to.map(str::to_owned),
            why: why.map(str::to_owned),
        };
        let entries = [
            entry("share", "25%", None, None),
            entry("share", "10%", Some("25%"), Some("looks well")),
        ];
        let version = |number: u64, version: &str, is_running: bool, is_file: bool| KeptVersion {
            number,
            version: version.to_owned(),
            since: ago((4 - number) * 600),
            file: "shop.toml".to_owned(),
            is_running,
            is_file,
            content: String::new(),
        };
        let kept = [version(3, "1.2.0", false, true), version(2, "1.1.0", true, false)];
        let text =
            [flags(&[unset, set], NOW), rollout_log(&entries), versions(&kept, NOW)].join("\n");
        insta::assert_snapshot!(text, @r"
        FLAG             VALUE  FILE    SET     BY   WHY
        shop-next.mode          canary
        shop-next.share  25%    10%     1m ago  ada  looks well

        2026-11-22T10:00:00.000Z  ada  shop-next.share: 25% → its file's
        2026-11-22T10:00:00.000Z  ada  shop-next.share: 10% → 25%  (looks well)

        KEPT  VERSION  BEGAN    FILE
        #3    1.2.0    10m ago  shop.toml  what the file says
        #2    1.1.0    20m ago  shop.toml  runs, rolled back to
        ");
    }
}
