//! What the operator sees: metrics, objectives and logs.

pub mod fields;
pub mod log;
pub mod redact;
pub mod slo;

mod metrics;
mod reconcile;

pub use metrics::{
    BatchMetrics, BatchResult, ConnectorMetrics, DestinationMetrics, Histogram, Metrics, Outcome,
    StreamMetrics, write_poll_holds, write_waiting_jobs,
};
pub use reconcile::{Ears, Reconciled};
