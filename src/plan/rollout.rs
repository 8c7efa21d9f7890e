//! `[rollout]`, as it runs.

use std::{sync::Arc, time::Duration};

/// How a connector runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RolloutMode {
    /// It takes events in and delivers them.
    #[default]
    Live,
    /// It gets copies of its original's events and delivers nothing.
    Shadow,
    /// It lives its share of its original's events.
    Canary,
    /// It does not run.
    Off,
}

impl RolloutMode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Live, Self::Shadow, Self::Canary, Self::Off];

    /// As written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::Off => "off",
        }
    }
}

/// A part of all keys, in ten-thousandths: what a hash can be compared with exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// All of them.
    pub const WHOLE: u16 = 10_000;

    /// The nearest to a ratio from 0 to 1.
    pub fn of_ratio(ratio: f64) -> Self {
        let parts = (ratio.clamp(0.0, 1.0) * f64::from(Self::WHOLE)).round();
        Self(parts as u16)
    }

    /// So many ten-thousandths, at most all.
    pub fn of_parts(parts: u16) -> Self {
        Self(parts.min(Self::WHOLE))
    }

    /// How many ten-thousandths.
    pub fn parts(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for Share {
    /// As a file would have it: `12.5%`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match (rest, rest % 10) {
            (0, _) => write!(f, "{whole}%"),
            (_, 0) => write!(f, "{whole}.{}%", rest / 10),
            _ => write!(f, "{whole}.{rest:02}%"),
        }
    }
}

/// `[rollout]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RolloutPlan {
    /// As the file says; a flag may say otherwise at run time.
    pub mode: RolloutMode,
    /// Whose events it gets. Such a connector is a variant, whatever its mode.
    pub of: Option<Arc<str>>,
    /// Of a canary: how many of the keys.
    pub share: Share,
    /// Of a canary: when it is stopped by itself.
    pub halt: HaltPlan,
}

/// `[rollout.halt]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HaltPlan {
    /// By how much its share of failed attempts may exceed the original's, 0 to 1.
    pub failures: f64,
    /// How many times as fast as the original it may spend its error budget.
    pub burn: u32,
    /// Fewer attempts prove nothing.
    pub of: u32,
    /// How far back is looked.
    pub within: Duration,
}

impl Default for HaltPlan {
    fn default() -> Self {
        Self { failures: 0.05, burn: 2, of: 20, within: Duration::from_mins(10) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_print_as_they_are_written() {
        for (ratio, text) in [
            (0.0, "0%"),
            (0.1, "10%"),
            (0.125, "12.5%"),
            (0.0025, "0.25%"),
            (0.3333, "33.33%"),
            (1.0, "100%"),
            (7.0, "100%"),
        ] {
            assert_eq!(Share::of_ratio(ratio).to_string(), text);
        }
        assert_eq!(Share::of_parts(u16::MAX), Share::of_ratio(1.0));
    }
}
