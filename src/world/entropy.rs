//! Chance: jitter, and nothing that must not be guessed.

use parking_lot::Mutex;
use ring::rand::SecureRandom;

/// A source of random numbers.
pub trait Entropy: Send + Sync {
    /// Uniform over all of `u64`.
    fn next_u64(&self) -> u64;

    /// Uniform in `[0, 1)`.
    fn fraction(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The operating system's random numbers.
#[derive(Debug)]
pub struct SystemEntropy(ring::rand::SystemRandom);

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl SystemEntropy {
    /// The operating system's source.
    pub fn new() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        // A system without random numbers is not one to run on; a fixed jitter would be a herd.
        self.0.fill(&mut bytes).expect("the operating system gives random numbers");
        u64::from_le_bytes(bytes)
    }
}

/// A repeatable sequence (splitmix64, Steele, Lea and Flood 2014) from a seed.
#[derive(Debug)]
pub struct ScriptedEntropy(Mutex<u64>);

impl ScriptedEntropy {
    /// The sequence that `seed` starts.
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Entropy for ScriptedEntropy {
    fn next_u64(&self) -> u64 {
        let mut state = self.0.lock();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
