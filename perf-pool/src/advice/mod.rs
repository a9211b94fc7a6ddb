//! Whether a pool has the right size, and how it is known.

mod erlang;
mod load;

use std::time::Duration;

use sqlx::Database;
use tokio::time::Instant;

use self::erlang::Model;
pub(crate) use self::load::Load;
use crate::{Holder, Pool, Status};

/// Fewer acquires say nothing about a tail of one in a hundred.
const ENOUGH: u64 = 500;

/// With a part of all connections in use above this, more would be if there were more.
const SATURATED: f64 = 0.95;

/// How far apart measured and predicted waiting may be before the model is doubted, and how little
/// is below all doubt: a wake-up takes as long.
const FIT: f64 = 2.0;
const NOISE: Duration = Duration::from_millis(1);

/// What a pool's size should be, with the evidence; see [`Pool::advise`](crate::Pool::advise).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Advice {
    /// What the evidence says.
    pub verdict: Verdict,
    /// What was measured.
    pub evidence: Evidence,
}

/// What the [`Evidence`] says about a pool. The first that applies, from the top.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// Fewer than 500 acquires in the last minute: no verdict.
    InsufficientData,
    /// Connections are held far longer than any was used that came back: find who forgets them.
    LeakSuspected {
        /// Who holds them, the longest first.
        holders: Vec<Holder>,
    },
    /// Callers wait for connections to be opened rather than for other callers: raise
    /// `min_connections` or the `idle_timeout`, or find out why connecting is slow.
    ConnectBound,
    /// With more connections in use, each use takes longer: the database is past its knee, and
    /// more connections would make it slower. Make the queries cheaper, or the pool smaller.
    DatabaseBound,
    /// All connections are in use nearly all the time, and the waiting is too long.
    Undersized {
        /// So many would meet the target, if the database keeps up.
        connections: u32,
    },
    /// Callers wait much longer or shorter than callers that come at random would: they come in
    /// bursts, say, or wait for each other. A size cannot be calculated then.
    ModelDoesNotFit,
    /// Half the connections or fewer would meet the target.
    Oversized {
        /// So many would do.
        connections: u32,
    },
    /// Nothing to change.
    Adequate,
}

/// What was measured in the last 30 to 60 seconds, through the pool's own guards.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Evidence {
    /// How long it was measured.
    pub window: Duration,
    /// Connections that were checked out.
    pub acquires: u64,
    /// Acquires that timed out.
    pub timeouts: u64,
    /// Acquires a second.
    pub arrival_rate: f64,
    /// The mean time from having a connection to giving it back.
    pub use_time: Duration,
    /// The same with less than half of the connections in use, and with half or more. Zero if that
    /// did not happen often enough to tell.
    pub use_time_by_load: [Duration; 2],
    /// What 99 of 100 callers waited at most for their turn.
    pub wait_p99: Duration,
    /// The part of all waiting that was for connections to be opened or tested.
    pub connecting: f64,
    /// Connections in use on average: arrival rate times use time.
    pub offered_load: f64,
    /// The part of the connections that were in use.
    pub utilisation: f64,
    /// What 99 of 100 callers would wait at most if they came at random (Erlang C). `None`: without
    /// end, more come than can be served.
    pub predicted_wait_p99: Option<Duration>,
    /// Connections that may be in use at a time.
    pub connections: u32,
    /// The waiting of 99 of 100 callers that is still good.
    pub target_wait_p99: Duration,
}

/// Nobody uses a connection for so long on purpose, where no `leak_detection_threshold` says more.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Short beside what a request takes.
const TARGET: Duration = Duration::from_millis(10);

impl<DB: Database> Pool<DB> {
    /// Whether the pool has the right size for the load of the last 30 to 60 seconds, if 99 of 100
    /// callers are to wait no longer than 10 ms, and the evidence for it.
    pub fn advise(&self) -> Advice {
        self.advise_for(TARGET)
    }

    /// Like [`advise`](Self::advise), with another target for what 99 of 100 callers wait at most.
    pub fn advise_for(&self, target_wait_p99: Duration) -> Advice {
        let inner = self.inner();
        let stuck_after = inner.stuck_after.unwrap_or(STUCK_AFTER);
        let mut stuck = inner.holders.longest(usize::MAX);
        stuck.retain(|holder| holder.held_for > stuck_after);
        let evidence = inner
            .load
            .evidence(Instant::now(), inner.max, target_wait_p99);
        Advice {
            verdict: evidence.verdict(&inner.status(), stuck),
            evidence,
        }
    }
}

impl Evidence {
    fn verdict(&self, status: &Status, stuck: Vec<Holder>) -> Verdict {
        if !stuck.is_empty() {
            return Verdict::LeakSuspected { holders: stuck };
        }
        if self.acquires < ENOUGH {
            return Verdict::InsufficientData;
        }
        let waits = self.wait_p99 > self.target_wait_p99.max(NOISE);
        if waits && self.connecting > 0.5 {
            return Verdict::ConnectBound;
        }
        let [low, high] = self.use_time_by_load;
        if !low.is_zero() && high >= low * 2 {
            return Verdict::DatabaseBound;
        }
        if waits && self.utilisation > SATURATED {
            return Verdict::Undersized {
                connections: self.in_system().max(status.max.saturating_add(1)),
            };
        }
        if !self.model_fits() {
            return Verdict::ModelDoesNotFit;
        }
        match self
            .model()
            .least(self.target_wait_p99, self.connections * 4)
        {
            Some(least) if waits && least > self.connections => {
                Verdict::Undersized { connections: least }
            }
            Some(least) if least <= self.connections / 2 => {
                Verdict::Oversized { connections: least }
            }
            _ => Verdict::Adequate,
        }
    }

    fn model(&self) -> Model {
        Model {
            offered_load: self.offered_load,
            use_time: self.use_time,
        }
    }

    fn model_fits(&self) -> bool {
        let Some(predicted) = self.predicted_wait_p99 else {
            return false;
        };
        let (measured, predicted) = (self.wait_p99.max(NOISE), predicted.max(NOISE));
        measured <= predicted.mul_f64(FIT) && predicted <= measured.mul_f64(FIT)
    }

    /// Callers that waited or held a connection at a time, on average, if those who waited did so
    /// for half of the longest (Little's law).
    fn in_system(&self) -> u32 {
        let wait = self.wait_p99.as_secs_f64() / 2.0;
        (self.arrival_rate * wait + self.offered_load).ceil() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(arrival_rate: f64, use_time: Duration, connections: u32) -> Evidence {
        let offered_load = arrival_rate * use_time.as_secs_f64();
        let model = Model {
            offered_load,
            use_time,
        };
        let predicted = model.wait_p99(connections);
        Evidence {
            window: Duration::from_secs(60),
            acquires: 10_000,
            timeouts: 0,
            arrival_rate,
            use_time,
            use_time_by_load: [use_time; 2],
            wait_p99: predicted.unwrap_or(Duration::from_secs(1)),
            connecting: 0.0,
            offered_load,
            utilisation: (offered_load / f64::from(connections)).min(1.0),
            predicted_wait_p99: predicted,
            connections,
            target_wait_p99: Duration::from_millis(10),
        }
    }

    fn verdict(evidence: &Evidence) -> Verdict {
        let status = Status {
            max: evidence.connections,
            ..Status::default()
        };
        evidence.verdict(&status, Vec::new())
    }

    const USE: Duration = Duration::from_millis(20);

    #[test]
    fn a_pool_that_fits_is_left_alone() {
        assert_eq!(verdict(&evidence(500.0, USE, 18)), Verdict::Adequate);
    }

    #[test]
    fn a_pool_of_which_most_is_never_used_is_too_large() {
        let Verdict::Oversized { connections } = verdict(&evidence(500.0, USE, 100)) else {
            panic!()
        };
        assert!((11..=50).contains(&connections), "{connections}");
    }

    #[test]
    fn a_pool_whose_callers_wait_as_predicted_is_too_small() {
        let Verdict::Undersized { connections } = verdict(&evidence(500.0, USE, 12)) else {
            panic!()
        };
        assert!((13..=20).contains(&connections), "{connections}");
    }

    #[test]
    fn a_saturated_pool_is_too_small_though_no_model_fits() {
        let mut evidence = evidence(500.0, USE, 10);
        evidence.wait_p99 = Duration::from_millis(100);
        let Verdict::Undersized { connections } = verdict(&evidence) else {
            panic!()
        };
        // 10 in use, and 500 a second for 50 ms waiting.
        assert_eq!(connections, 35);
    }

    #[test]
    fn a_database_past_its_knee_never_gets_more_connections() {
        let mut evidence = evidence(500.0, USE, 10);
        evidence.wait_p99 = Duration::from_secs(1);
        evidence.use_time_by_load = [USE / 2, USE];
        assert_eq!(verdict(&evidence), Verdict::DatabaseBound);
    }

    #[test]
    fn waiting_that_the_model_does_not_explain_is_said_to_be_so() {
        let mut evidence = evidence(100.0, USE, 18);
        evidence.wait_p99 = Duration::from_millis(200);
        assert_eq!(verdict(&evidence), Verdict::ModelDoesNotFit);
    }

    #[test]
    fn waiting_for_handshakes_is_no_reason_for_more_connections() {
        let mut evidence = evidence(500.0, USE, 12);
        evidence.connecting = 0.9;
        assert_eq!(verdict(&evidence), Verdict::ConnectBound);
    }

    #[test]
    fn a_few_acquires_say_nothing() {
        let mut evidence = evidence(500.0, USE, 12);
        evidence.acquires = ENOUGH - 1;
        assert_eq!(verdict(&evidence), Verdict::InsufficientData);
    }
}
