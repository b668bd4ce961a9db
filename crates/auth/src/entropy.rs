//! Where unpredictable bytes come from: an argument, so that tests can foresee them.

use std::fmt::Debug;

use ring::rand::{SecureRandom, SystemRandom};

/// A source of unpredictable bytes, for nonces and salts.
pub trait Entropy: Debug + Send + Sync + 'static {
    /// Fills `bytes` with what no one can foresee.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's source.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    /// When the system has no randomness to give: nothing can be kept secret then.
    fn fill(&self, bytes: &mut [u8]) {
        assert!(
            SystemRandom::new().fill(bytes).is_ok(),
            "the system gives no random bytes"
        );
    }
}
