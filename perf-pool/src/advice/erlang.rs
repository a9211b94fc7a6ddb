//! The M/M/c queue: what waiting to expect if callers come at random and every connection serves
//! one of them (Erlang C; Kleinrock, Queueing Systems, volume 1, section 3.4).

use std::time::Duration;

/// A pool as the model sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Model {
    /// Arrival rate times use time: how many connections are in use on average.
    pub(super) offered_load: f64,
    pub(super) use_time: Duration,
}

impl Model {
    /// The chance that a caller has to wait, with so many connections.
    pub(super) fn chance_of_waiting(&self, connections: u32) -> f64 {
        let (load, count) = (self.offered_load, f64::from(connections));
        if load >= count {
            return 1.0;
        }
        // Erlang B by its recursion, which no factorial overflows, then C from B.
        let blocking = (1..=connections).fold(1.0, |blocking, n| {
            load * blocking / (f64::from(n) + load * blocking)
        });
        blocking / (1.0 - load / count * (1.0 - blocking))
    }

    /// What 99 of 100 callers wait at most. `None`: without end, more come than can be served.
    pub(super) fn wait_p99(&self, connections: u32) -> Option<Duration> {
        let spare = f64::from(connections) - self.offered_load;
        if spare <= 0.0 {
            return None;
        }
        // P(wait > t) = P(wait) e^(-(c - a) t / s)
        let tail = (self.chance_of_waiting(connections) / 0.01).ln().max(0.0);
        let seconds = tail * self.use_time.as_secs_f64() / spare;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// The least connections with which 99 of 100 callers wait no longer than `target`.
    pub(super) fn least(&self, target: Duration, at_most: u32) -> Option<u32> {
        (1..=at_most).find(|&connections| {
            self.wait_p99(connections)
                .is_some_and(|wait| wait <= target)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(offered_load: f64) -> Model {
        Model {
            offered_load,
            use_time: Duration::from_millis(10),
        }
    }

    /// One server is M/M/1, where the chance of waiting is the load. For more, values from tables of
    /// Erlang C.
    #[test]
    fn the_chance_of_waiting_is_that_of_the_tables() {
        for load in [0.1, 0.5, 0.9] {
            assert!((model(load).chance_of_waiting(1) - load).abs() < 1e-12);
        }
        for (connections, load, chance) in
            [(2, 1.0, 1.0 / 3.0), (3, 2.0, 4.0 / 9.0), (10, 7.0, 0.2217)]
        {
            let got = model(load).chance_of_waiting(connections);
            assert!(
                (got - chance).abs() < 1e-4,
                "{connections} at {load}: {got}"
            );
        }
    }

    #[test]
    fn the_tail_of_one_server_is_exponential() {
        // P(W > t) = 0.5 e^(-50 t) = 0.01 at t = ln(50) / 50 s.
        let wait = model(0.5).wait_p99(1).unwrap();
        assert!((wait.as_secs_f64() - 50_f64.ln() / 50.0).abs() < 1e-9);
        assert_eq!(model(1.0).wait_p99(1), None);
        assert_eq!(model(0.001).wait_p99(1), Some(Duration::ZERO));
    }

    #[test]
    fn the_least_is_the_least() {
        let (model, target) = (model(20.0), Duration::from_millis(1));
        let least = model.least(target, 1000).unwrap();
        assert!(least > 20);
        assert!(model.wait_p99(least).unwrap() <= target);
        assert!(model.wait_p99(least - 1).is_none_or(|wait| wait > target));
        assert_eq!(model.least(target, 20), None);
    }
}
