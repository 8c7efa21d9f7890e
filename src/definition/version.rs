//! How versions follow each other, by the rules of semantic versioning.

/// The precedence of a version: semantic versioning 2.0.0, section 11. What follows `+` does not count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    /// Major, minor, patch.
    pub numbers: Vec<u64>,
    /// Whether it is a release, or on the way to one.
    pub pre: PreRelease,
}

/// What follows `-`. A pre-release comes before its release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PreRelease {
    /// Its parts.
    Before(Vec<Part>),
    /// Nothing follows.
    Release,
}

/// One part of a pre-release. Numbers come before words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Compared as a number.
    Number(u64),
    /// Compared byte by byte.
    Word(String),
}

impl Precedence {
    /// Of `2.1.0-beta.1+5`. A number that is none counts as zero.
    pub fn of(version: &str) -> Self {
        let version = version.split('+').next().unwrap_or_default();
        let (core, pre) = version.split_once('-').unwrap_or((version, ""));
        let part = |part: &str| match part.parse() {
            Ok(number) => Part::Number(number),
            Err(_) => Part::Word(part.to_owned()),
        };
        let pre = match pre {
            "" => PreRelease::Release,
            pre => PreRelease::Before(pre.split('.').map(part).collect()),
        };
        Self { numbers: core.split('.').map(|part| part.parse().unwrap_or(0)).collect(), pre }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_follow_each_other_as_semver_says() {
        let ordered = [
            "0.9.0",
            "0.9.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.2.0",
            "1.10.0",
        ];
        for pair in ordered.windows(2) {
            assert!(Precedence::of(pair[0]) < Precedence::of(pair[1]), "{pair:?}");
        }
        assert_eq!(Precedence::of("1.0.0+a"), Precedence::of("1.0.0+b"));
        assert_eq!(Precedence::of("1.0.0"), Precedence::of("1.0.0+5"));
    }
}
