//! The clock of the timings: the processor's cycle counter where it is steady, else the system's.

pub(crate) use quanta::Instant;

/// Calibrates the clock, once in a process, so that no request has to wait for it.
pub(crate) fn calibrate() {
    Instant::now();
}
