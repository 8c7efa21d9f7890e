//! Secrets: where they come from, and a type that does not print them.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use zeroize::Zeroizing;

/// A text that is never shown: `Debug` and `Display` print `[redacted]`, and it is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text into custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Where secrets are looked up. Each lookup asks again, so that rotation needs no reload.
pub trait Secrets: Send + Sync {
    /// The secret of that name, or `None` where it is unset or empty.
    fn get(&self, name: &str) -> Option<Secret>;
}

/// A folder with one file a secret (the file's name is the secret's), then the environment.
#[derive(Clone, Debug, Default)]
pub struct FolderSecrets {
    folder: Option<PathBuf>,
}

impl FolderSecrets {
    /// Looks into `folder` first where there is one, then into the environment.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }
}

/// Whether `name` may be looked up at all: letters, digits and `_`, so it cannot leave the folder.
fn is_secret_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl Secrets for FolderSecrets {
    fn get(&self, name: &str) -> Option<Secret> {
        if !is_secret_name(name) {
            return None;
        }
        let from_file = self.folder.as_ref().and_then(|folder| {
            let text = Zeroizing::new(std::fs::read_to_string(folder.join(name)).ok()?);
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        });
        from_file
            .or_else(|| std::env::var(name).ok())
            .filter(|text| !text.is_empty())
            .map(Secret::new)
    }
}

/// A fixed set of secrets, for tests and examples.
#[derive(Clone, Debug, Default)]
pub struct StaticSecrets(BTreeMap<String, Secret>);

impl StaticSecrets {
    /// The given names and values.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.into_iter().map(|(n, v)| (n.to_owned(), Secret::new(v))).collect())
    }
}

impl Secrets for StaticSecrets {
    fn get(&self, name: &str) -> Option<Secret> {
        self.0.get(name).cloned()
    }
}
