//! Metrics, logs.

pub mod log;
pub mod redact;

/// All counters of the process.
pub struct Metrics {}

impl Metrics {
    /// Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        unimplemented!()
    }
}
