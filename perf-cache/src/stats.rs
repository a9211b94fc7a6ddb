/// What a [`Cache`](crate::Cache) has done since it was built, and what it holds.
///
/// The counts are taken one after another while the cache works on, so they may be a few
/// requests apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Requests answered from memory.
    pub hits: u64,
    /// Requests answered from memory by a value that was no longer fresh; some of them after a
    /// load had failed, which are misses too.
    pub stale: u64,
    /// Requests that found no entry, or an expired one, whether a load followed or not.
    pub misses: u64,
    /// Keys that were not in memory and were found in the shared tier.
    pub remote_hits: u64,
    /// Keys that were not in the shared tier either.
    pub remote_misses: u64,
    /// Keys for which the shared tier could not be asked.
    pub remote_errors: u64,
    /// Loads started. With many callers asking for the same missing key this is far below
    /// `misses`.
    pub loads: u64,
    /// Loads that ended in an error, in a panic, or in the cache's shutdown.
    pub loads_failed: u64,
    /// Loads whose value went to their callers but not into the cache, because the key was
    /// invalidated or inserted while they ran.
    pub loads_superseded: u64,
    /// Entries in memory now, the expired ones that are not reclaimed yet included.
    pub entries: u64,
    /// Entries that went because the cache was full or because they were expired.
    pub evictions: u64,
}

impl Stats {
    /// The share of requests answered from memory, from 0.0 to 1.0; 0.0 before the first request.
    pub fn hit_ratio(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            requests => self.hits as f64 / requests as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hit_ratio_is_hits_over_requests() {
        let stats = |hits, misses| Stats {
            hits,
            misses,
            ..Stats::default()
        };
        assert_eq!(stats(0, 0).hit_ratio(), 0.0);
        assert_eq!(stats(0, 5).hit_ratio(), 0.0);
        assert_eq!(stats(9, 1).hit_ratio(), 0.9);
        assert_eq!(stats(7, 0).hit_ratio(), 1.0);
    }
}
