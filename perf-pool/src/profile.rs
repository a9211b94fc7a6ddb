/// How many connections a pool keeps and how many it may open on top when load peaks.
///
/// The base stays open ([`PoolBuilder::min_connections`](crate::PoolBuilder::min_connections));
/// overflow connections are opened on demand, up to base + overflow
/// ([`PoolBuilder::max_connections`](crate::PoolBuilder::max_connections)), and close again once
/// they have been idle for [`PoolBuilder::idle_timeout`](crate::PoolBuilder::idle_timeout).
///
/// | profile | base | overflow | max |
/// |---|---|---|---|
/// | `Low` (default) | 20 | 30 | 50 |
/// | `Moderate` | 50 | 100 | 150 |
/// | `High` | 100 | 200 | 300 |
///
/// A Postgres server takes 100 connections unless told otherwise, over all its clients:
/// `Moderate` and `High` need a larger `max_connections` there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Profile {
    /// 20 connections, 30 more at peaks.
    #[default]
    Low,
    /// 50 connections, 100 more at peaks.
    Moderate,
    /// 100 connections, 200 more at peaks.
    High,
}

impl Profile {
    /// The connections that stay open.
    pub const fn base(self) -> u32 {
        match self {
            Self::Low => 20,
            Self::Moderate => 50,
            Self::High => 100,
        }
    }

    /// The connections that may be opened on top of the base.
    pub const fn overflow(self) -> u32 {
        match self {
            Self::Low => 30,
            Self::Moderate => 100,
            Self::High => 200,
        }
    }
}
