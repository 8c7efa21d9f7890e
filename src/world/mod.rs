//! The outside world as arguments: time, chance and secrets.
//!
//! Every other module takes what it needs from a [`World`]; none reads a clock, draws a random
//! number or looks into the environment by itself. That makes decisions repeatable in tests and
//! lets one scripted world drive the whole engine.

mod clock;
mod disk;
mod entropy;
mod secrets;
mod skew;

pub use clock::{Clock, ScriptedClock, SystemClock, Timestamp};
pub use disk::{Disk, DiskFile, SystemDisk};
pub use entropy::{Entropy, ScriptedEntropy, SystemEntropy};
pub use secrets::{FolderSecrets, Secret, Secrets, StaticSecrets};
pub use skew::{Skew, Turn, skew_text};

use std::sync::Arc;

/// A boxed future, for traits that are used as objects.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Time, chance and secrets, handed to whatever needs them.
#[derive(Clone)]
pub struct World {
    /// What time it is, and how to wait.
    pub clock: Arc<dyn Clock>,
    /// Where jitter comes from.
    pub entropy: Arc<dyn Entropy>,
    /// Where secrets are looked up, at use.
    pub secrets: Arc<dyn Secrets>,
}
