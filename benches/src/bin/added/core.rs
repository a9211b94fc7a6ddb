//! Whether a thread has its core to itself.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// What a thread had while it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Core {
    /// A core to itself.
    Alone,
    /// A core that it shared with another hyperthread, all the time.
    Shared,
    /// Sometimes this, sometimes that.
    Mixed,
}

impl Core {
    /// By what [`look`] says before and after, and the least that it ever said.
    pub(crate) fn of(looks: &[Duration], least: Duration) -> Self {
        if looks.iter().all(|look| *look <= least.mul_f64(1.05)) {
            Self::Alone
        } else if looks.iter().all(|look| *look >= least.mul_f64(1.1)) {
            Self::Shared
        } else {
            Self::Mixed
        }
    }
}

/// How long a loop takes that keeps the multiplier busy, which the hyperthreads of a core share: some
/// 20 microseconds, and at least a sixth more while there is another. On a virtual machine that is
/// often a stranger's, of whom nothing else is to be seen; the clock's speed is the same.
pub(crate) fn look() -> Duration {
    let mut independent = [1_u64, 2, 3, 4, 5, 6, 7, 8];
    let start = Instant::now();
    for i in 0..10_000 {
        for it in &mut independent {
            *it = it.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i;
        }
    }
    black_box(independent);
    start.elapsed()
}
