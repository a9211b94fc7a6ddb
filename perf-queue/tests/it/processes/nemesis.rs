//! What goes wrong, at random.

use std::time::Duration;

use testkit::Proxy;

use super::check::Fault;
use super::crew::Crew;
use super::log::now;
use crate::support::ms;

/// Where the jobs are, and what can befall that.
pub(super) trait Place {
    /// What can go wrong here, each as often as it is named.
    const WRONG: &'static [Wrong];

    /// Stops at any point, and starts again.
    async fn crash(&self) {}

    /// Stops in order, and starts again.
    async fn restart(&self) {}

    /// Cuts all connections.
    async fn cut(&self) {}

    /// Keeps everybody from the jobs for a while.
    async fn block(&self, _wait: Duration) {}
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(dead_code, reason = "what can go wrong differs by the backend")]
pub(super) enum Wrong {
    /// A process is killed with -9.
    Kill,
    /// A process stands still for longer than its lease.
    Stop,
    /// The network of a process swallows everything for a while, which may be longer than its lease.
    Partition,
    /// The connections of a process are reset.
    Reset,
    Crash,
    Restart,
    Cut,
    Block,
}

/// What is to come to an end at its time.
struct Lasting {
    until: Duration,
    at: usize,
    fault: Fault,
}

pub(super) struct Nemesis<'a, P> {
    pub(super) place: &'a P,
    pub(super) crew: &'a mut Crew,
    /// Of each member of the crew.
    pub(super) proxies: &'a [Proxy],
    pub(super) rng: fastrand::Rng,
}

impl<P: Place> Nemesis<'_, P> {
    /// So many faults; returns when all that last have come to their end.
    pub(super) async fn run(mut self, count: usize) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut lasting: Vec<Lasting> = Vec::new();
        while faults.len() + lasting.len() < count || !lasting.is_empty() {
            tokio::time::sleep(ms(self.rng.u64(20..200))).await;
            for over in lasting.extract_if(.., |it| it.until <= now()) {
                faults.push(self.end(over));
            }
            if faults.len() + lasting.len() < count {
                let wrong = self.rng.choice(P::WRONG).copied().unwrap();
                let at = self.rng.usize(0..self.crew.len());
                self.begin(wrong, at, &mut faults, &mut lasting).await;
            }
        }
        faults
    }

    async fn begin(
        &mut self,
        wrong: Wrong,
        at: usize,
        faults: &mut Vec<Fault>,
        lasting: &mut Vec<Lasting>,
    ) {
        let process = self.crew.number(at);
        let of_one = [Wrong::Kill, Wrong::Stop, Wrong::Partition, Wrong::Reset].contains(&wrong);
        let mut fault = Fault {
            wrong,
            process: of_one.then_some(process),
            from: now(),
            to: now(),
        };
        match wrong {
            Wrong::Kill => self.crew.replace(at),
            Wrong::Stop if self.crew.is_stopped(at) => return,
            Wrong::Stop => self.crew.stop(at),
            Wrong::Partition => self.proxies[at].black_hole(true),
            Wrong::Reset => self.proxies[at].cut(),
            Wrong::Crash => self.place.crash().await,
            Wrong::Restart => self.place.restart().await,
            Wrong::Cut => self.place.cut().await,
            Wrong::Block => self.place.block(ms(self.rng.u64(50..400))).await,
        }
        fault.to = now();
        let lasts = match wrong {
            Wrong::Stop => self.rng.u64(1_100..2_000),
            Wrong::Partition => self.rng.u64(100..1_800),
            _ => return faults.push(fault),
        };
        let until = now() + ms(lasts);
        lasting.push(Lasting { until, at, fault });
    }

    fn end(&mut self, over: Lasting) -> Fault {
        let Lasting { at, mut fault, .. } = over;
        if fault.wrong == Wrong::Partition {
            self.proxies[at].black_hole(false);
        } else if fault.process == Some(self.crew.number(at)) {
            // Else it was killed meanwhile.
            self.crew.go_on(at);
        }
        fault.to = now();
        fault
    }
}
