//! `[rollout]`: whether a connector runs, and beside which other.

use super::{
    pen::{At, Pen},
    rule, say,
};
use crate::plan::{HaltPlan, RolloutMode, RolloutPlan};

pub(super) fn compare(pen: &mut Pen<'_>, (old, new): (&RolloutPlan, &RolloutPlan)) {
    let at = At::file();
    let RolloutPlan { mode, of, share, halt } = new;
    mode_changed(pen, &at, (old, new), *mode);
    let show = |of: &Option<std::sync::Arc<str>>| {
        of.as_deref().map_or_else(|| "none".to_owned(), say::quoted)
    };
    pen.value(&at, "rollout.of", rule::ROLLOUT_VARIANT, (&old.of, of), show, || {
        "it gets another connector's events".to_owned()
    });
    // Of what is no canary, neither matters.
    if *mode != RolloutMode::Canary || old.mode != RolloutMode::Canary {
        return;
    }
    let show = ToString::to_string;
    let effect = || {
        if share > &old.share {
            "keys join the canary; those that it has stay".to_owned()
        } else {
            "keys go back to the original, those being retried, too".to_owned()
        }
    };
    pen.value(&at, "rollout.share", rule::ROLLOUT_VARIANT, (&old.share, share), show, effect);
    halts(pen, &at, (&old.halt, halt));
}

fn mode_changed(
    pen: &mut Pen<'_>,
    at: &At,
    (old, new): (&RolloutPlan, &RolloutPlan),
    mode: RolloutMode,
) {
    if old.mode == mode {
        return;
    }
    let of = |plan: &RolloutPlan| plan.of.as_deref().map(say::quoted).unwrap_or_default();
    let (rule, effect) = match (old.mode, mode) {
        (RolloutMode::Live, RolloutMode::Off) => (
            rule::ROLLOUT_OFF,
            "webhooks answer 404, polls and deliveries stop; cursors and what is not delivered wait"
                .to_owned(),
        ),
        (RolloutMode::Live, _) => (
            rule::ROLLOUT_OFF,
            format!("it takes no events in any more and gets those of {}", of(new)),
        ),
        (RolloutMode::Off, RolloutMode::Live) if old.of.is_none() => (
            rule::ROLLOUT_ON,
            "webhooks are taken, polls go on at their cursors, what waited is delivered".to_owned(),
        ),
        (_, RolloutMode::Live) => (
            rule::ROLLOUT_ON,
            format!(
                "it takes events in by itself, under ids of its own: what {} delivered may be delivered \
                 again",
                of(old)
            ),
        ),
        (_, RolloutMode::Canary) => (
            rule::ROLLOUT_VARIANT,
            format!("it delivers {} of the keys of {}", new.share, of(new)),
        ),
        (_, RolloutMode::Shadow) => (
            rule::ROLLOUT_VARIANT,
            "it delivers nothing and reports what differs; its keys go through the original".to_owned(),
        ),
        (_, RolloutMode::Off) => {
            (rule::ROLLOUT_VARIANT, "everything goes through its original".to_owned())
        }
    };
    let what = format!("{} → {}", old.mode.word(), mode.word());
    pen.note(at, "rollout.mode", rule, what, effect);
}

fn halts(pen: &mut Pen<'_>, at: &At, (old, new): (&HaltPlan, &HaltPlan)) {
    let HaltPlan { failures, burn, of, within } = new;
    let rule = rule::ROLLOUT_VARIANT;
    let effect = String::new;
    let show = |ratio: &f64| say::percent(*ratio);
    pen.value(at, "rollout.halt.failures", rule, (&old.failures, failures), show, effect);
    let show = |number: &u32| number.to_string();
    pen.value(at, "rollout.halt.burn", rule, (&old.burn, burn), show, effect);
    pen.value(at, "rollout.halt.of", rule, (&old.of, of), show, effect);
    let show = |span: &std::time::Duration| say::duration(*span);
    pen.value(at, "rollout.halt.within", rule, (&old.within, within), show, effect);
}
