//! What was decided at run time, in the bus's state: flags, halts, pinned versions, and who did what.
//!
//! JSON under `rollout/flags/<connector>`, `rollout/halts/<variant>`, `rollout/pins/<connector>` and
//! `rollout/log/<number>`. A decision and its line of the log are one append: durable together or not
//! at all. Fields are only ever added, with defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    bus::{Append, Bus, StateWrites, StoreError},
    definition::units,
    plan::{ConnectorPlan, ContentHash, RolloutMode, Share},
    world::Timestamp,
};

const FLAGS: &str = "rollout/flags/";
const HALTS: &str = "rollout/halts/";
const PINS: &str = "rollout/pins/";
const LOG: &str = "rollout/log/";

/// Lines of the log that are kept.
const LOG_LINES: usize = 1_000;

/// A setting that wins over the file until it is unset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flag {
    /// As it would be written: `25%`, `off`.
    pub value: String,
    /// When it was set.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    #[serde(default)]
    pub why: Option<String>,
}

/// The flags of one connector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    #[serde(default)]
    pub share: Option<Flag>,
    #[serde(default)]
    pub mode: Option<Flag>,
}

/// A canary that was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// When.
    pub at: Timestamp,
    /// Why, for a person.
    pub why: String,
    /// What its file compiled to: another content is another attempt.
    pub content: String,
}

/// A version that runs although the file says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// What runs.
    pub content: String,
    /// What the file compiled to when it was pinned; the pin ends when that changes. Empty: it did not
    /// compile.
    pub instead_of: String,
    /// Its `version`.
    pub version: String,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    #[serde(default)]
    pub why: Option<String>,
}

/// One line of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// By whom; `tenon` where nobody asked.
    pub by: String,
    /// The connector.
    pub connector: String,
    /// `share`, `mode`, `halt`, `rollback`.
    pub what: String,
    /// What held before.
    #[serde(default)]
    pub from: Option<String>,
    /// What holds now; nothing: what the file says.
    #[serde(default)]
    pub to: Option<String>,
    /// Why.
    #[serde(default)]
    pub why: Option<String>,
}

/// Everything that was decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub flags: BTreeMap<String, Flags>,
    pub halts: BTreeMap<String, Halt>,
    pub pins: BTreeMap<String, Pin>,
}

impl Ledger {
    /// As it stands. What cannot be read is logged and counts as not there.
    pub fn read(bus: &dyn Bus) -> Self {
        Self { flags: area(bus, FLAGS), halts: area(bus, HALTS), pins: area(bus, PINS) }
    }

    /// How a connector runs, and whether a flag says so.
    pub fn mode(&self, plan: &ConnectorPlan) -> (RolloutMode, bool) {
        let flag = self.flags.get(&*plan.name).and_then(|flags| flags.mode.as_ref());
        let flagged = flag.and_then(|flag| read_mode(plan, &flag.value).ok());
        (flagged.unwrap_or(plan.rollout.mode), flagged.is_some())
    }

    /// A canary's share, and whether a flag says so.
    pub fn share(&self, plan: &ConnectorPlan) -> (Share, bool) {
        let flag = self.flags.get(&*plan.name).and_then(|flags| flags.share.as_ref());
        let flagged = flag.and_then(|flag| read_share(&flag.value).ok());
        (flagged.unwrap_or(plan.rollout.share), flagged.is_some())
    }

    /// Why this very content of a canary is stopped.
    pub fn halt(&self, plan: &ConnectorPlan) -> Option<&Halt> {
        self.halts.get(&*plan.name).filter(|halt| halt.content == hex(plan.content))
    }
}

/// A mode that the connector can have. Errors: for a person.
pub fn read_mode(plan: &ConnectorPlan, text: &str) -> Result<RolloutMode, String> {
    let allowed: &[RolloutMode] = if plan.is_variant() {
        &[RolloutMode::Shadow, RolloutMode::Canary, RolloutMode::Off]
    } else {
        &[RolloutMode::Live, RolloutMode::Off]
    };
    let words = || allowed.iter().map(|mode| format!("`{}`", mode.word())).collect::<Vec<_>>();
    let mode = allowed.iter().copied().find(|mode| mode.word() == text);
    mode.ok_or_else(|| match &plan.rollout.of {
        Some(of) => format!(
            "`{text}` is no mode for `{}`, which is a variant of `{of}`: expected one of {}",
            plan.name,
            words().join(", ")
        ),
        None => format!(
            "`{text}` is no mode for `{}`, whose file has no `of`: expected one of {}",
            plan.name,
            words().join(", ")
        ),
    })
}

/// A share. Errors: for a person.
pub fn read_share(text: &str) -> Result<Share, String> {
    units::ratio(text).map(Share::of_ratio).map_err(|wrong| {
        let help =
            wrong.help.map(|help| format!("; {}", help.replace('`', ""))).unwrap_or_default();
        format!("`{text}` is no share: expected a percentage such as 25%{help}")
    })
}

/// A content as state has it.
pub fn hex(content: ContentHash) -> String {
    data_encoding::HEXLOWER.encode(&content.0)
}

fn area<T: DeserializeOwned>(bus: &dyn Bus, prefix: &str) -> BTreeMap<String, T> {
    let stored = bus.state_under(prefix).into_iter();
    let read = stored.filter_map(|(key, bytes)| {
        let name = key.strip_prefix(prefix)?.to_owned();
        match serde_json::from_slice(&bytes) {
            Ok(value) => Some((name, value)),
            Err(error) => {
                tracing::error!(key, %error, "stored state of a rollout cannot be read");
                None
            }
        }
    });
    read.collect()
}

/// A decision to be written: what is there afterwards, `None` for nothing.
pub enum Write<'w> {
    Flags(&'w str, Flags),
    Halt(&'w str, Option<Halt>),
    Pin(&'w str, Option<Pin>),
}

impl Write<'_> {
    fn state(&self) -> (String, Option<Vec<u8>>) {
        fn json(value: &impl Serialize) -> Option<Vec<u8>> {
            serde_json::to_vec(value).ok()
        }
        match self {
            Self::Flags(name, flags) => {
                let is_empty = *flags == Flags::default();
                (format!("{FLAGS}{name}"), json(flags).filter(|_| !is_empty))
            }
            Self::Halt(name, halt) => (format!("{HALTS}{name}"), halt.as_ref().and_then(json)),
            Self::Pin(name, pin) => (format!("{PINS}{name}"), pin.as_ref().and_then(json)),
        }
    }
}

/// Makes decisions durable with their lines of the log. One at a time: the caller sees to it.
pub async fn write(
    bus: &dyn Bus,
    decisions: &[Write<'_>],
    entries: &[Entry],
) -> Result<(), StoreError> {
    let mut state: StateWrites = decisions.iter().map(Write::state).collect();
    let numbers: Vec<String> = bus.state_under(LOG).into_iter().map(|(key, _)| key).collect();
    let last = numbers.last().and_then(|key| key.strip_prefix(LOG)?.parse::<u64>().ok());
    for (number, entry) in (last.map_or(0, |last| last + 1)..).zip(entries) {
        state.push((format!("{LOG}{number:020}"), serde_json::to_vec(entry).ok()));
    }
    let too_many = (numbers.len() + entries.len()).saturating_sub(LOG_LINES);
    state.extend(numbers.into_iter().take(too_many).map(|key| (key, None)));
    bus.append(Append { events: Vec::new(), state }).await?;
    Ok(())
}

/// The log, newest first.
pub fn log(bus: &dyn Bus) -> Vec<Entry> {
    area::<Entry>(bus, LOG).into_values().rev().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert_eq, proptest};

    use super::*;
    use crate::{bus::MemoryBus, world::SystemClock};

    fn text() -> impl Strategy<Value = String> {
        ".{0,20}"
    }

    fn at() -> impl Strategy<Value = Timestamp> {
        any::<i64>().prop_map(Timestamp)
    }

    fn flag() -> impl Strategy<Value = Option<Flag>> {
        let flag = (text(), at(), text(), prop::option::of(text()));
        prop::option::of(flag.prop_map(|(value, at, by, why)| Flag { value, at, by, why }))
    }

    fn back<T: Serialize + DeserializeOwned>(value: &T) -> T {
        serde_json::from_slice(&serde_json::to_vec(value).unwrap()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_stored_comes_back_as_it_was(
            flags in (flag(), flag()),
            at in at(),
            texts in (text(), text(), text(), text()),
            why in prop::option::of(text()),
        ) {
            let flags = Flags { share: flags.0, mode: flags.1 };
            prop_assert_eq!(&back(&flags), &flags);
            let (a, b, c, d) = texts;
            let halt = Halt { at, why: a.clone(), content: b.clone() };
            prop_assert_eq!(&back(&halt), &halt);
            let pin = Pin {
                content: a.clone(), instead_of: b.clone(), version: c.clone(), at, by: d.clone(), why: why.clone(),
            };
            prop_assert_eq!(&back(&pin), &pin);
            let entry = Entry {
                at, by: a, connector: b, what: c, from: why.clone(), to: Some(d), why,
            };
            prop_assert_eq!(&back(&entry), &entry);
        }
    }

    #[tokio::test]
    async fn the_log_is_newest_first_and_bounded() {
        let bus = MemoryBus::new(Arc::new(SystemClock));
        let entry = |n: usize| Entry { what: n.to_string(), ..Entry::default() };
        for part in (0..LOG_LINES + 30).collect::<Vec<_>>().chunks(10) {
            let entries: Vec<Entry> = part.iter().map(|n| entry(*n)).collect();
            write(&*bus, &[], &entries).await.unwrap();
        }
        let log = log(&*bus);
        assert_eq!(log.len(), LOG_LINES);
        assert_eq!((&*log[0].what, &*log[LOG_LINES - 1].what), ("1029", "30"));
    }

    #[tokio::test]
    async fn an_empty_set_of_flags_leaves_nothing_behind() {
        let bus = MemoryBus::new(Arc::new(SystemClock));
        let flags = Flags { share: Some(Flag::default()), mode: None };
        write(&*bus, &[Write::Flags("shop", flags.clone())], &[]).await.unwrap();
        assert_eq!(Ledger::read(&*bus).flags["shop"], flags);
        write(&*bus, &[Write::Flags("shop", Flags::default())], &[]).await.unwrap();
        assert_eq!(Ledger::read(&*bus), Ledger::default());
    }
}
