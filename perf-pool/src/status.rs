/// What a pool looks like at one moment; see [`Pool::status`](crate::Pool::status).
///
/// `in_use + idle == size` always holds. All values count connections, except `pending`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Status {
    /// The most connections that the pool opens: base + overflow.
    pub max: u32,
    /// Connections that are open or being opened.
    pub size: u32,
    /// Open connections that wait for a caller.
    pub idle: u32,
    /// Connections that are not idle: checked out, being opened, or on their way back.
    pub in_use: u32,
    /// Connections above the base.
    pub overflow: u32,
    /// Callers that wait in an acquire right now.
    pub pending: u32,
}

impl Status {
    /// Reads like one moment though the three numbers are read one after another: sqlx counts
    /// connections and idle ones separately, its idle count can be ahead for an instant, and it can
    /// wrap around below zero (sqlx #3645).
    pub(crate) fn new(max: u32, base: u32, size: u32, idle: usize, pending: u32) -> Self {
        let size = size.min(max);
        let idle = u32::try_from(idle).unwrap_or(0).min(size);
        Self {
            max,
            size,
            idle,
            in_use: size - idle,
            overflow: size.saturating_sub(base),
            pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn in_use_and_idle_add_up_to_size_whatever_is_read(
            max in 1..100u32, base in 0..100u32, size in 0..200u32, idle: usize, pending: u32,
        ) {
            let status = Status::new(max, base, size, idle, pending);
            prop_assert_eq!(status.in_use + status.idle, status.size);
            prop_assert!(status.size <= max);
        }
    }

    #[test]
    fn an_idle_count_below_zero_means_that_none_is_idle() {
        let status = Status::new(8, 2, 8, 0_usize.wrapping_sub(1), 0);
        assert_eq!((status.in_use, status.idle), (8, 0));
    }
}
