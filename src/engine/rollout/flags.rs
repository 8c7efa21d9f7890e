//! Flags: settings that win over the file until they are unset, with who set them, when and why.

use serde::{Deserialize, Serialize};

use super::{
    super::{Engine, load::Look},
    Variant,
    ledger::{self, Entry, Flag, Flags, Ledger, Write, read_mode, read_share},
};
use crate::plan::{ConnectorPlan, RolloutMode};

/// Longer reasons and names are cut off where they are taken in.
const MOST_WORDS_CHARS: usize = 500;

/// What somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlagChange {
    /// `shopify.share`, `shopify.mode`: the connector, or the original of its only variant.
    pub flag: String,
    /// The value; none unsets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Who wants it.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A flag and what it does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlagStatus {
    /// `shopify-next.share`: the connector whose setting it is.
    pub flag: String,
    /// Whose variant that connector is: its name stands for the canary's, too.
    #[serde(default)]
    pub of: Option<String>,
    /// What is set; nothing where the file's value holds.
    pub value: Option<String>,
    /// What the file says; nothing where no such connector runs.
    pub file: Option<String>,
    /// When it was set.
    pub at: Option<crate::world::Timestamp>,
    /// By whom.
    pub by: Option<String>,
    /// Why.
    pub why: Option<String>,
}

/// A setting that a flag can be set for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    Share,
    Mode,
}

impl Setting {
    fn word(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Mode => "mode",
        }
    }

    fn of(self, flags: &Flags) -> Option<&Flag> {
        match self {
            Self::Share => flags.share.as_ref(),
            Self::Mode => flags.mode.as_ref(),
        }
    }

    fn file(self, plan: &ConnectorPlan) -> String {
        match self {
            Self::Share => plan.rollout.share.to_string(),
            Self::Mode => plan.rollout.mode.word().to_owned(),
        }
    }

    /// The value as it is kept. Errors: for a person.
    fn read(self, plan: &ConnectorPlan, text: &str) -> Result<String, String> {
        match self {
            Self::Share => read_share(text).map(|share| share.to_string()),
            Self::Mode => read_mode(plan, text).map(|mode| mode.word().to_owned()),
        }
    }
}

impl Engine {
    /// Sets or unsets a flag, durably, and makes it hold. A halted canary goes on. Errors: for a
    /// person; nothing changed.
    pub async fn change_flag(&self, change: &FlagChange) -> Result<FlagStatus, String> {
        let (name, setting) = split(&change.flag)?;
        let plan = match self.flagged(name, setting) {
            Err(_)
                if change.value.is_none() && !self.running.read().connectors.contains_key(name) =>
            {
                return self.forget_flag(name, setting, change).await;
            }
            found => found?,
        };
        let value = match &change.value {
            Some(text) => Some(setting.read(&plan, text)?),
            None => None,
        };
        if setting == Setting::Mode && value.as_deref() == Some(RolloutMode::Canary.word()) {
            self.only_canary(&plan)?;
        }
        let status = {
            let _one_at_a_time = self.shared.rollouts.writing.lock().await;
            let ledger = Ledger::read(self.bus().as_ref());
            self.write_flag(&plan, setting, value, change, &ledger).await?
        };
        if setting == Setting::Mode {
            // Nothing is read again: connectors whose mode changed are replaced.
            self.reload_where(Look::At([].into()), true).await;
        }
        Ok(status)
    }

    /// Unsets a flag of a connector that does not run: it would hold again once one of that name does.
    async fn forget_flag(
        &self,
        name: &str,
        setting: Setting,
        change: &FlagChange,
    ) -> Result<FlagStatus, String> {
        let _one_at_a_time = self.shared.rollouts.writing.lock().await;
        let mut flags = Ledger::read(self.bus().as_ref()).flags.remove(name).unwrap_or_default();
        let flag = match setting {
            Setting::Share => flags.share.take(),
            Setting::Mode => flags.mode.take(),
        };
        let Some(flag) = flag else { return Err(format!("no connector named `{name}` runs")) };
        let entry = Entry {
            at: self.now(),
            by: cut(&change.by),
            connector: name.to_owned(),
            what: setting.word().to_owned(),
            from: Some(flag.value),
            to: None,
            why: change.why.as_deref().map(cut),
        };
        let decisions = [Write::Flags(name, flags.clone())];
        ledger::write(self.bus().as_ref(), &decisions, &[entry])
            .await
            .map_err(|error| error.to_string())?;
        tracing::info!(connector = name, flag = setting.word(), by = change.by, "flag unset");
        Ok(status(name, setting, None, &flags))
    }

    /// A key has two sides, not three.
    fn only_canary(&self, plan: &ConnectorPlan) -> Result<(), String> {
        let running = self.running.read();
        let other = running.connectors.values().find(|other| {
            other.mode == RolloutMode::Canary
                && other.plan.rollout.of == plan.rollout.of
                && other.plan.name != plan.name
        });
        let of = plan.rollout.of.as_deref().unwrap_or_default();
        other.map_or(Ok(()), |other| {
            Err(format!("`{}` is `{of}`'s canary already: turn it off first", other.plan.name))
        })
    }

    async fn write_flag(
        &self,
        plan: &ConnectorPlan,
        setting: Setting,
        value: Option<String>,
        change: &FlagChange,
        ledger: &Ledger,
    ) -> Result<FlagStatus, String> {
        let name = &*plan.name;
        let mut flags = ledger.flags.get(name).cloned().unwrap_or_default();
        let before = setting.of(&flags).map_or_else(|| setting.file(plan), |f| f.value.clone());
        if value.is_none() && setting.of(&flags).is_none() {
            return Err(format!("the flag `{name}.{}` is not set", setting.word()));
        }
        let now = self.now();
        let by = cut(&change.by);
        let why = change.why.as_deref().map(cut);
        let flag = value.map(|value| Flag { value, at: now, by: by.clone(), why: why.clone() });
        match setting {
            Setting::Share => flags.share.clone_from(&flag),
            Setting::Mode => flags.mode.clone_from(&flag),
        }
        let entry = Entry {
            at: now,
            by,
            connector: name.to_owned(),
            what: setting.word().to_owned(),
            from: Some(before),
            to: flag.as_ref().map(|flag| flag.value.clone()),
            why,
        };
        let (from, to) = (entry.from.clone(), entry.to.clone());
        let decisions = [Write::Flags(name, flags.clone()), Write::Halt(name, None)];
        ledger::write(self.bus().as_ref(), &decisions, std::slice::from_ref(&entry))
            .await
            .map_err(|error| error.to_string())?;
        tracing::info!(
            connector = name,
            flag = setting.word(),
            from,
            to,
            by = entry.by,
            why = entry.why,
            "flag changed"
        );
        let connector = self.running.read().connectors.get(name).cloned();
        if let Some(Variant::Canary(canary)) = connector.as_ref().and_then(|it| it.variant.as_ref())
        {
            canary.lift();
        }
        self.publish(&Ledger::read(self.bus().as_ref()));
        Ok(status(name, setting, Some(plan), &flags))
    }

    /// Every flag that is set, and those that could be of connectors that are not simply live.
    pub fn flags(&self) -> Vec<FlagStatus> {
        let ledger = Ledger::read(self.bus().as_ref());
        let running = self.running.read();
        let mut found = Vec::new();
        let named = running
            .connectors
            .values()
            .filter(|it| it.plan.is_variant() || it.plan.rollout.mode != RolloutMode::Live);
        let mut names: std::collections::BTreeSet<&str> =
            named.map(|connector| &*connector.plan.name).collect();
        names.extend(ledger.flags.keys().map(String::as_str));
        for name in names {
            let plan = running.connectors.get(name).map(|connector| &*connector.plan);
            let flags = ledger.flags.get(name).cloned().unwrap_or_default();
            for setting in [Setting::Mode, Setting::Share] {
                let applies =
                    setting == Setting::Mode || plan.is_some_and(ConnectorPlan::is_variant);
                if applies || setting.of(&flags).is_some() {
                    found.push(status(name, setting, plan, &flags));
                }
            }
        }
        found
    }

    /// Who changed what, newest first.
    pub fn rollout_log(&self) -> Vec<Entry> {
        ledger::log(self.bus().as_ref())
    }

    /// The connector whose setting is meant: of that name, or the only variant of that name.
    fn flagged(
        &self,
        name: &str,
        setting: Setting,
    ) -> Result<std::sync::Arc<ConnectorPlan>, String> {
        let running = self.running.read();
        let named = running.connectors.get(name).map(|connector| &connector.plan);
        if let Some(plan) = named.filter(|plan| setting == Setting::Mode || plan.is_variant()) {
            return Ok(std::sync::Arc::clone(plan));
        }
        let plans = running.connectors.values().map(|connector| &connector.plan);
        let of = |plan: &&std::sync::Arc<ConnectorPlan>| plan.rollout.of.as_deref() == Some(name);
        let variants: Vec<_> = plans.filter(of).collect();
        // A share is a canary's, whatever shadows there are.
        let is_canary = |plan: &&&std::sync::Arc<ConnectorPlan>| {
            running.connectors[&plan.name].mode == RolloutMode::Canary
        };
        let canaries: Vec<_> = variants.iter().filter(is_canary).collect();
        match (canaries.as_slice(), variants.as_slice()) {
            ([one], _) => Ok(std::sync::Arc::clone(one)),
            (_, [one]) => Ok(std::sync::Arc::clone(one)),
            (_, []) if named.is_some() => Err(format!(
                "`{name}` has no variant whose share could be set: a canary is a connector with \
                 [rollout] mode = \"canary\" and of = \"{name}\""
            )),
            (_, []) => Err(format!("no connector named `{name}` runs")),
            (_, many) => {
                let names: Vec<_> = many.iter().map(|plan| format!("`{}`", plan.name)).collect();
                Err(format!("`{name}` has several variants: name one of {}", names.join(", ")))
            }
        }
    }
}

/// `shopify.eu.share` as connector and setting. Errors: for a person.
fn split(flag: &str) -> Result<(&str, Setting), String> {
    let (name, word) = flag.rsplit_once('.').unwrap_or((flag, ""));
    match word {
        "share" => Ok((name, Setting::Share)),
        "mode" => Ok((name, Setting::Mode)),
        _ => Err(format!("`{flag}` is no flag: expected NAME.share or NAME.mode")),
    }
}

fn status(name: &str, setting: Setting, plan: Option<&ConnectorPlan>, flags: &Flags) -> FlagStatus {
    let flag = setting.of(flags);
    FlagStatus {
        flag: format!("{name}.{}", setting.word()),
        of: plan.and_then(|plan| plan.rollout.of.as_deref()).map(str::to_owned),
        value: flag.map(|flag| flag.value.clone()),
        file: plan.map(|plan| setting.file(plan)),
        at: flag.map(|flag| flag.at),
        by: flag.map(|flag| flag.by.clone()),
        why: flag.and_then(|flag| flag.why.clone()),
    }
}

/// Words of a request, in one line and not without end.
pub(super) fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MOST_WORDS_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_by_the_last_dot() {
        let named = |flag| split(flag).map(|(name, setting)| (name, setting.word()));
        assert_eq!(named("shop.share"), Ok(("shop", "share")));
        assert_eq!(named("shop.eu.mode"), Ok(("shop.eu", "mode")));
        for wrong in ["shop", "share", "shop.halt", ""] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }
}
