//! `tenon schema`: what an editor needs to complete and check the two kinds of file.

use super::{Exit, Outcome, render};
use crate::definition::{json_schema, settings_json_schema};

/// tenon.toml with every setting, its default and what it does.
const DEFAULT_CONFIG: &str = include_str!("tenon.default.toml");

#[derive(Debug, clap::Args)]
#[command(after_help = "Editors find a schema by a connector's first line: \
                        `#:schema connector.schema.json`.")]
pub struct Args {
    /// Print tenon.toml with every setting, its default and what it does
    #[arg(long, conflicts_with = "settings")]
    config: bool,
    /// Print the JSON Schema of tenon.toml
    #[arg(long)]
    settings: bool,
}

pub fn run(args: &Args) -> Outcome {
    match (args.config, args.settings) {
        (true, _) => render::text(DEFAULT_CONFIG)?,
        (_, true) => render::json(&settings_json_schema())?,
        _ => render::json(&json_schema())?,
    }
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        diagnostic::SourceFile,
        plan::{Settings, compile_settings},
    };

    fn settings(text: String) -> Settings {
        let file = SourceFile { path: "tenon.toml".into(), text };
        let (settings, diagnostics) = compile_settings(&Arc::new(file));
        assert_eq!(diagnostics, []);
        settings
    }

    /// The file's lines without the `#` before a setting. Prose begins with a space and a capital.
    fn uncommented() -> String {
        let is_setting = |line: &&str| {
            let name = line.trim_start_matches("# ").split(' ').next().unwrap_or_default();
            line.contains(" = ") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        DEFAULT_CONFIG
            .lines()
            .map(|line| if is_setting(&line) { line.trim_start_matches("# ") } else { line })
            .fold(String::new(), |text, line| text + line + "\n")
    }

    #[test]
    fn the_default_config_says_what_the_defaults_are() {
        let mut stated = settings(uncommented());
        assert!(uncommented().contains("\nlisten "));
        // These two have no default; the file shows an example.
        assert!(stated.public_url.take().is_some());
        assert!(stated.secrets.take().is_some());
        let defaults = format!("{:?}", Settings::default());
        assert_eq!(format!("{stated:?}"), defaults);
        assert_eq!(format!("{:?}", settings(DEFAULT_CONFIG.to_owned())), defaults);
    }
}
