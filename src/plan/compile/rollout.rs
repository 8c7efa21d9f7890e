//! `[rollout]`.

use std::sync::Arc;

use super::{
    super::{HaltPlan, RolloutMode, RolloutPlan, Share},
    connector::Whole,
    context::Context,
};
use crate::{
    definition::{
        rollout::{HaltDef, ModeDef, RolloutDef},
        table::{At, Given, Loc},
    },
    diagnostic::codes,
};

const DEFAULT_SHARE: f64 = 0.1;

/// The plan; what contradicts itself is reported.
pub(super) fn compile(context: &mut Context<'_>, whole: Whole<'_>) -> RolloutPlan {
    let Some(At { value: def, at, .. }) = whole.own.rollout.or(&whole.body.rollout).get() else {
        return RolloutPlan::default();
    };
    let mode = match def.mode.value() {
        Some(ModeDef::Shadow) => RolloutMode::Shadow,
        Some(ModeDef::Canary) => RolloutMode::Canary,
        Some(ModeDef::Off) => RolloutMode::Off,
        Some(ModeDef::Live) | None => RolloutMode::Live,
    };
    original(context, whole, def, *at, mode);
    misplaced(context, def, mode);
    let share = def.share.value().map_or(DEFAULT_SHARE, |ratio| ratio.0);
    RolloutPlan {
        mode,
        of: def.of.value().map(|of| Arc::from(of.0.as_str())),
        share: Share::of_ratio(share),
        halt: halt(&def.halt),
    }
}

fn halt(given: &Given<HaltDef>) -> HaltPlan {
    let default = HaltPlan::default();
    let Some(def) = given.value() else { return default };
    HaltPlan {
        failures: def.failures.value().map_or(default.failures, |ratio| ratio.0),
        burn: def.burn.value().map_or(default.burn, |int| int.0 as u32),
        of: def.of.value().map_or(default.of, |int| int.0 as u32),
        within: def.within.value().map_or(default.within, |span| span.0),
    }
}

/// A variant has an original, which is another connector.
fn original(
    context: &mut Context<'_>,
    whole: Whole<'_>,
    def: &RolloutDef,
    at: Loc,
    mode: RolloutMode,
) {
    let is_variant = matches!(mode, RolloutMode::Shadow | RolloutMode::Canary);
    if is_variant && def.of.is_absent() {
        let place = def.mode.get().map_or(at, |mode| mode.at);
        context
            .error(
                codes::NO_ORIGINAL,
                place,
                format!("a {} of nothing", mode.word()),
                "expected `of` beside it",
            )
            .help("name the connector whose events it gets: of = \"shop\"");
        return;
    }
    let own = whole.own.name.value().map(|name| name.0.as_str());
    if let Some(of) = def.of.get().filter(|of| Some(of.value.0.as_str()) == own) {
        context
            .error(codes::NO_ORIGINAL, of.at, "a connector beside itself", "this is its own name")
            .help(
                "the new version is a file of its own with a name of its own, such as \
                 `shop-next`; `of` names the connector that runs today",
            );
    }
}

/// Keys that the mode does not use.
fn misplaced(context: &mut Context<'_>, def: &RolloutDef, mode: RolloutMode) {
    let keys = [("of", def.of.key()), ("share", def.share.key()), ("halt", def.halt.key())];
    for (key, at) in keys {
        let Some(at) = at else { continue };
        let (is_used, expected) = match key {
            "of" => (mode != RolloutMode::Live, "`shadow` or `canary`"),
            // A variant that is off may be turned on by a flag.
            _ => (
                mode == RolloutMode::Canary || !def.of.is_absent() && mode != RolloutMode::Live,
                "`canary`",
            ),
        };
        if !is_used {
            let message = format!("`{key}` has no effect where the mode is `{}`", mode.word());
            context
                .error(codes::MISPLACED_KEY, at, message, format!("expected mode {expected}"))
                .help(format!("remove `{key}`, or set mode to {expected}"));
        }
    }
}
