//! The bus without a disk, for tests and as the measure of what durability costs.

/// A [`super::Bus`] that keeps everything in memory.
pub struct MemoryBus {}
