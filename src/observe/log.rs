//! Log lines: one JSON object a line on stderr, or text for a terminal.
//!
//! In JSON an event's fields stand beside `timestamp`, `level`, `target` and `message`, so that a
//! line can be searched by `event`, `connector` or `destination` without knowing where it came from.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::plan::LogSettings;

/// Installs the process's subscriber. Errors: a level that is none, or a second installation.
pub fn install(settings: &LogSettings) -> Result<(), String> {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = layer(settings, colour, io::stderr)?;
    Registry::default().with(layer).try_init().map_err(|error| error.to_string())
}

/// A layer that writes as the settings say; `install` and tests differ in the writer only.
fn layer<W>(
    settings: &LogSettings,
    colour: bool,
    writer: W,
) -> Result<Box<dyn Layer<Registry> + Send + Sync>, String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter(&settings.level)?;
    let layer = fmt::layer().with_writer(writer);
    Ok(if settings.json {
        layer.json().flatten_event(true).with_current_span(false).with_filter(filter).boxed()
    } else {
        layer.with_ansi(colour).with_filter(filter).boxed()
    })
}

/// A bare level is Tenon's own; of the libraries it shows warnings, so that `debug` stays
/// readable. Anything else is a list of directives (`tenon=debug,hyper=trace`).
fn filter(level: &str) -> Result<EnvFilter, String> {
    let directives = match level.trim() {
        "error" => "error".to_owned(),
        own @ ("warn" | "info" | "debug" | "trace") => format!("warn,tenon={own}"),
        other if other.contains('=') => other.to_owned(),
        other => {
            return Err(format!(
                "`{other}` is no log level: expected error, warn, info, debug, trace, or \
                 directives such as `tenon=debug,hyper=info`"
            ));
        }
    };
    EnvFilter::try_new(&directives).map_err(|error| format!("log level `{level}`: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, json: bool) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let settings = LogSettings { level: level.to_owned(), json };
        let layer = layer(&settings, false, move || writer.clone()).expect("a level");
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            let event = "evt_a";
            tracing::info!(target: "tenon::engine", event, attempt = 3, "delivered");
            tracing::info!(target: "sled::pagecache", "noise");
            tracing::debug!(target: "tenon::engine", "detail");
        });
        let bytes = captured.0.lock().clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_json_line_has_its_fields_at_the_top() {
        let text = logged("info", true);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["message"], "delivered");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["event"], "evt_a");
        assert_eq!(line["attempt"], 3);
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')));
    }

    #[test]
    fn levels_are_our_own_and_directives_reach_further() {
        assert_eq!(logged("debug", false).lines().count(), 2);
        assert_eq!(logged("error", false), "");
        assert!(logged("sled=info,tenon=off", false).contains("noise"));
        let message = filter("loud").expect_err("no level");
        assert!(message.contains("`loud` is no log level"), "{message}");
    }
}
