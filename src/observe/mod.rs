//! What the operator sees: metrics and logs.

pub mod log;
pub mod redact;

mod metrics;
mod reconcile;

pub use metrics::{
    BatchMetrics, BatchResult, ConnectorMetrics, DestinationMetrics, Histogram, Metrics, Outcome,
    StreamMetrics, write_poll_holds,
};
pub use reconcile::{Ears, Reconciled};
