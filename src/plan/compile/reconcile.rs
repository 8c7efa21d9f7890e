//! `[schedule.reconcile]`: the stream's own keys over the file's.
//!
//! What a file says for all of its streams has no effect on one that has nothing to read again or to
//! listen to; what a stream says for itself and cannot have is an error.

use std::time::Duration;

use super::{
    super::{
        AgainPlan, CursorFormat, CursorPlan, CursorStart, Dedupe, PollPlan, Reach, ReconcilePlan,
        SchedulePlan, ScheduleWhen, SilencePlan,
    },
    connector::Whole,
    context::Context,
    schedule,
};
use crate::{
    definition::{
        kinds,
        reconcile::ReconcileDef,
        schedule::ScheduleDef,
        stream::StreamDef,
        table::{At, Given, Loc},
    },
    diagnostic::codes,
};

/// A claim outlasts the window by this: a run takes its time, and two systems have two clocks.
const MARGIN: Duration = Duration::from_hours(1);

/// What else of the stream matters.
pub(super) struct Subject<'p> {
    pub schedule: Option<&'p SchedulePlan>,
    pub poll: Option<&'p PollPlan>,
    pub dedupe: Dedupe,
}

pub(super) fn compile(
    context: &mut Context<'_>,
    whole: Whole<'_>,
    name: &str,
    stream: &StreamDef,
    subject: &Subject<'_>,
) -> Option<ReconcilePlan> {
    let file = whole.own.schedule.or(&whole.body.schedule);
    let (own, shared) = (of_schedule(&stream.schedule), of_schedule(file));
    for table in [own, shared].into_iter().flatten().filter_map(Given::value) {
        check_table(context, table);
    }
    check_own(context, name, stream, own.and_then(Given::get));
    if let Some(table) = shared.and_then(Given::value) {
        check_file(context, whole, table);
    }
    let tables: Vec<&ReconcileDef> =
        [own, shared].into_iter().flatten().filter_map(Given::value).collect();
    let (schedule, poll) = (subject.schedule?, subject.poll?);
    if tables.is_empty() {
        return None;
    }
    let again = again(context, &tables, stream, poll, subject.dedupe);
    let silence =
        if stream.webhook.is_absent() { None } else { silence(context, &tables, schedule) };
    (again.is_some() || silence.is_some()).then_some(ReconcilePlan { again, silence })
}

fn of_schedule(table: &Given<ScheduleDef>) -> Option<&Given<ReconcileDef>> {
    table.value().map(|def| &def.reconcile)
}

fn first<'d, T>(
    tables: &[&'d ReconcileDef],
    key: impl Fn(&'d ReconcileDef) -> &'d Given<T>,
) -> Option<&'d At<T>> {
    tables.iter().map(|table| key(table)).find(|given| !given.is_absent())?.get()
}

/// What is wrong with a table by itself.
fn check_table(context: &mut Context<'_>, def: &ReconcileDef) {
    context.exclude(("every", def.every.key()), ("cron", def.cron.key()));
    if def.given().is_empty() {
        context
            .error(
                codes::BAD_RECONCILE,
                def.at,
                "the reconciliation says nothing",
                "`every`, `cron` or `silence` expected here",
            )
            .help("write every = \"24h\" and window = \"6d\", or silence = \"3h\"");
    }
    if let (Some(tz), Some(_)) = (def.tz.key(), def.every.key()) {
        context
            .error(codes::MISPLACED_KEY, tz, "`tz` has no effect here", "`every` does not use it")
            .help("a time zone matters to `cron`");
    }
}

/// What a stream says for itself has to have an effect.
fn check_own(
    context: &mut Context<'_>,
    name: &str,
    stream: &StreamDef,
    own: Option<&At<ReconcileDef>>,
) {
    let Some(own) = own else { return };
    if stream.poll.is_absent() {
        let message = format!("stream `{name}` has nothing to read again");
        context
            .error(codes::MISPLACED_KEY, own.key, message, "it does not poll")
            .help(format!("add a [stream.{name}.poll], which finds what webhooks do not bring"));
    }
    if stream.webhook.is_absent() {
        let def = &own.value;
        for (key, at) in [("silence", def.silence.key()), ("faster", def.faster.key())] {
            let why = format!("stream `{name}` takes no webhooks");
            let help = format!("add a [stream.{name}.webhook], or leave `{key}` out");
            misplaced(context, (key, at), &why, &help);
        }
    }
}

/// What the file says for all has to have an effect on one.
fn check_file(context: &mut Context<'_>, whole: Whole<'_>, def: &ReconcileDef) {
    let streams = whole.body.stream.value().map_or(&[][..], |named| named.0.as_slice());
    let hears = |stream: &StreamDef| !stream.webhook.is_absent() && !stream.poll.is_absent();
    if streams.iter().any(|(_, stream)| hears(&stream.value)) {
        return;
    }
    for (key, at) in [("silence", def.silence.key()), ("faster", def.faster.key())] {
        let help = format!("leave `{key}` out");
        misplaced(context, (key, at), "no stream both polls and takes webhooks", &help);
    }
}

/// Refuses a key, where it is there.
fn misplaced(context: &mut Context<'_>, (key, at): (&str, Option<Loc>), why: &str, help: &str) {
    if let Some(at) = at {
        let message = format!("`{key}` has no effect here");
        context.error(codes::MISPLACED_KEY, at, message, why).help(help);
    }
}

/// When it is read again, and how far back.
fn again(
    context: &mut Context<'_>,
    tables: &[&ReconcileDef],
    stream: &StreamDef,
    poll: &PollPlan,
    dedupe: Dedupe,
) -> Option<AgainPlan> {
    let window = first(tables, |table| &table.window);
    let says_when = |def: &&&ReconcileDef| !def.every.is_absent() || !def.cron.is_absent();
    let Some(when) = tables.iter().find(says_when) else {
        let keys = [
            ("window", window.map(|given| given.key)),
            ("tz", first(tables, |table| &table.tz).map(|given| given.key)),
            ("jitter", first(tables, |table| &table.jitter).map(|given| given.key)),
        ];
        for key in keys {
            let help = "add every = \"24h\", or cron = \"30 2 * * *\"";
            misplaced(context, key, "nothing says when to read again", help);
        }
        return None;
    };
    let tz = tables.iter().map(|def| &def.tz).find(|tz| !tz.is_absent()).unwrap_or(&Given::Absent);
    let jitter = first(tables, |table| &table.jitter).map(|given| &given.value);
    let schedule = schedule::timed(context, (&when.every, &when.cron, tz), jitter);
    let Some(cursor) = &poll.cursor else {
        // Each run reads everything as it is.
        return Some(AgainPlan { schedule: schedule?, reach: Reach::Full });
    };
    let Some(window) = window else {
        if tables.iter().all(|table| table.window.is_absent()) {
            let at = when.every.key().or(when.cron.key()).unwrap_or(when.at);
            context
                .error(
                    codes::BAD_RECONCILE,
                    at,
                    "the reconciliation does not say how far back it reads",
                    "`window` expected beside this",
                )
                .help(
                    "add window = \"6d\", or window = \"full\" for all since the cursor's `start`",
                );
        }
        return None;
    };
    let reach = match window.value {
        kinds::Reach::For(window) => Reach::Window(window),
        kinds::Reach::Full => Reach::Full,
    };
    check_reach(context, window.at, (reach, cursor), stream, dedupe).then_some(())?;
    Some(AgainPlan { schedule: schedule?, reach })
}

/// A window is a time, and what it reads again is known by its claim.
fn check_reach(
    context: &mut Context<'_>,
    at: Loc,
    (reach, cursor): (Reach, &CursorPlan),
    stream: &StreamDef,
    dedupe: Dedupe,
) -> bool {
    let counts = matches!(cursor.format, CursorFormat::Integer | CursorFormat::Text);
    let span = match (reach, &cursor.start) {
        (Reach::Window(_), _) if counts => {
            context
                .error(
                    codes::BAD_RECONCILE,
                    at,
                    "a window of time over a cursor that is no time",
                    "the cursor's values have no age",
                )
                .help("write window = \"full\": everything since the cursor's `start`");
            return false;
        }
        (Reach::Window(window), _) => Some(window),
        (Reach::Full, Some(CursorStart::Ago(ago))) => Some(*ago),
        (Reach::Full, _) => None,
    };
    let Dedupe::Window(claims) = dedupe else { return true };
    if span.is_some_and(|span| span + MARGIN <= claims) {
        return true;
    }
    let (claims_end, shorter) = (written(claims), shorter(claims));
    let (label, help) = match span {
        Some(span) => (
            format!("claims end after {claims_end}"),
            format!(
                "a claim has to outlast the window by an hour: dedupe = \"{}\"{shorter}",
                written(whole_days(span)),
            ),
        ),
        None => (
            format!("it has no end, and claims end after {claims_end}"),
            format!("remember each event for good: dedupe = \"forever\"{shorter}"),
        ),
    };
    let message = "what this reads again would be delivered again: its claims have ended";
    let reported = context.error(codes::BAD_RECONCILE, at, message, label).help(help);
    if let Some(dedupe) = stream.dedupe.get() {
        reported.related(dedupe.at, "claims end after this");
    }
    false
}

/// A window that these claims outlast, as the end of a sentence.
fn shorter(claims: Duration) -> String {
    const DAY: Duration = Duration::from_hours(24);
    let fits = if claims > DAY { claims.saturating_sub(DAY) } else { claims / 2 };
    if fits < MARGIN { String::new() } else { format!(", or window = \"{}\"", written(fits)) }
}

/// The next whole day after a time that leaves a margin.
fn whole_days(span: Duration) -> Duration {
    const DAY_SECONDS: u64 = 86_400;
    Duration::from_secs((span + MARGIN).as_secs().div_ceil(DAY_SECONDS) * DAY_SECONDS)
}

/// As the language writes durations.
fn written(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut out = String::new();
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if rest / length > 0 {
            out.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// How long webhooks may be missing, and how often is polled then.
fn silence(
    context: &mut Context<'_>,
    tables: &[&ReconcileDef],
    schedule: &SchedulePlan,
) -> Option<SilencePlan> {
    let faster = first(tables, |table| &table.faster);
    let Some(silence) = first(tables, |table| &table.silence) else {
        let at = faster.map(|faster| faster.key);
        let help = "add silence = \"3h\": how long they may be missing";
        misplaced(context, ("faster", at), "nothing says when webhooks are missing", help);
        return None;
    };
    if let (Some(faster), ScheduleWhen::Every(every)) = (faster, &schedule.when)
        && faster.value.0 >= *every
    {
        let label = format!("the poll runs every {}", written(*every));
        context
            .error(codes::BAD_RECONCILE, faster.at, "`faster` is not faster", label)
            .help("a time that is shorter than the schedule's `every`, or none");
        return None;
    }
    Some(SilencePlan { after: silence.value.0, faster: faster.map(|faster| faster.value.0) })
}
