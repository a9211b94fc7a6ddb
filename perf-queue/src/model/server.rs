//! A backend on a server.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Differs, How, LONG, New, Run, Sizes, System};
use crate::remote::{Ended, Granted, Lease, NewJob, Remote, Rules, Want};
use crate::{JobId, Scope, remote};

const LEASE: Duration = Duration::from_secs(3_600);

/// A server goes by its own clock: a process that is gone has such a lease.
const SHORT: Duration = Duration::from_millis(2);

pub(crate) struct Server<R> {
    remote: R,
    /// Of the process that crashes: what a lease is prolonged by is a process' own.
    other: R,
    differs: Differs,
    held: BTreeMap<u64, Lease>,
    /// The half of the ids that is not the jobs' number.
    ids: u64,
}

impl<R: Remote> Server<R> {
    pub(crate) fn new([remote, other]: [R; 2], differs: Differs) -> Self {
        Self {
            remote,
            other,
            differs,
            held: BTreeMap::new(),
            ids: fastrand::u64(..),
        }
    }

    const fn id(&self, number: u64) -> JobId {
        JobId::new(self.ids, number)
    }

    /// Asks until there are so many, or no more.
    async fn take(&self, want: usize) -> Vec<Granted> {
        let mut granted: Vec<Granted> = Vec::new();
        while granted.len() < want {
            let want = Want {
                jobs: want - granted.len(),
                within: Duration::ZERO,
                lease: LEASE,
            };
            let exchange = self.remote.exchange(&[], want).await.unwrap();
            if exchange.granted.is_empty() {
                break;
            }
            granted.extend(exchange.granted);
        }
        granted
    }

    /// Tells it, and gives how many of them were not this process' to end.
    async fn tell(&self, ended: &[Ended]) -> usize {
        let want = Want {
            jobs: 0,
            within: Duration::ZERO,
            lease: LEASE,
        };
        self.remote.exchange(ended, want).await.unwrap().lost.len()
    }
}

/// What is to wait for the server's clock waits for longer than the test takes.
const fn later(seconds: u64) -> Duration {
    Duration::from_secs(if seconds == 0 { 0 } else { LONG })
}

fn run(granted: &Granted) -> Run {
    let number = granted.payload.as_slice().try_into().unwrap();
    Run {
        number: u64::from_be_bytes(number),
        attempt: granted.attempt,
        token: granted.lease.token,
    }
}

fn ended(lease: Lease, how: How) -> Ended {
    let error = "no".to_owned();
    let after = later(how.after().unwrap_or(0));
    let how = match how {
        How::Done => remote::How::Done,
        How::Retry(_) => remote::How::Retry { after, error },
        How::Snooze(_) => remote::How::Snooze {
            after,
            penalty: None,
        },
        How::Penalty(_) => remote::How::Snooze {
            after,
            penalty: Some(Scope::Key),
        },
        How::Dead => remote::How::Dead { error },
        How::Released => remote::How::Released,
    };
    Ended { lease, how }
}

impl<R: Remote> System for Server<R> {
    fn differs(&self) -> Differs {
        self.differs
    }

    async fn enqueue(&mut self, jobs: &[New]) -> bool {
        let jobs: Vec<NewJob> = jobs
            .iter()
            .map(|new| NewJob {
                id: self.id(new.number),
                key: vec![b'a' + new.key],
                payload: new.number.to_be_bytes().to_vec(),
                delay: later(new.delay),
                priority: new.priority,
                unique: None,
                trace: String::new(),
                rate: None,
            })
            .collect();
        let added = self.remote.enqueue(&jobs).await.unwrap();
        if added.is_some() {
            // The answer was lost: once more.
            let again = self.remote.enqueue(&jobs).await.unwrap();
            assert!(again.is_some() && again == added);
        }
        added.is_some()
    }

    async fn end(&mut self, jobs: &[(u64, How)]) {
        let ended: Vec<Ended> = jobs
            .iter()
            .map(|(number, how)| ended(self.held.remove(number).unwrap(), *how))
            .collect();
        assert_eq!(self.tell(&ended).await, 0);
        // Who says it twice has lost them.
        assert_eq!(self.tell(&ended).await, ended.len());
    }

    async fn claim(&mut self, want: usize) -> Vec<Run> {
        let granted = self.take(want).await;
        let runs = granted.iter().map(run).collect::<Vec<_>>();
        let leases = granted.iter().map(|job| job.lease);
        self.held
            .extend(runs.iter().map(|run| run.number).zip(leases));
        runs
    }

    async fn extend(&mut self, number: u64) {
        assert_eq!(
            self.remote
                .extend(&[self.held[&number]], LEASE)
                .await
                .unwrap(),
            []
        );
    }

    async fn crash(&mut self, want: usize) -> Option<Vec<Run>> {
        // One trip, since the first leases might be over at the end of a second one.
        let want = Want {
            jobs: want,
            within: Duration::ZERO,
            lease: SHORT,
        };
        let granted = self.other.exchange(&[], want).await.unwrap().granted;
        let leases: Vec<Lease> = granted.iter().map(|job| job.lease).collect();
        if !granted.is_empty() {
            tokio::time::sleep(2 * SHORT).await;
        }
        // Looks for leases that are over.
        self.tell(&[]).await;
        // It was not gone, only late.
        let late: Vec<Ended> = leases.iter().map(|it| ended(*it, How::Done)).collect();
        assert_eq!(self.tell(&late).await, late.len());
        assert_eq!(
            self.other.extend(&leases, LEASE).await.unwrap().len(),
            late.len()
        );
        Some(granted.iter().map(run).collect())
    }

    async fn set_concurrency(&mut self, cap: Option<u32>) -> bool {
        let rules = Rules {
            concurrency_per_key: cap,
            ..Rules::default()
        };
        self.remote.set_rules(&rules).await.unwrap();
        true
    }

    async fn replay(&mut self, number: u64) -> bool {
        self.remote.replay(self.id(number)).await.unwrap() == Some(true)
    }

    async fn purge(&mut self) -> u64 {
        self.remote.purge(Duration::ZERO).await.unwrap()
    }

    async fn pause(&mut self, paused: bool) {
        self.remote.pause(paused).await.unwrap();
    }

    async fn sizes(&mut self) -> Sizes {
        let counts = self.remote.counts().await.unwrap();
        let dead = self.remote.dead(usize::from(u16::MAX)).await.unwrap();
        assert_eq!(counts.dead, dead.len() as u64);
        let number = |payload: &[u8]| u64::from_be_bytes(payload.try_into().unwrap());
        Sizes {
            waiting: counts.ready + counts.limited + counts.scheduled,
            in_flight: counts.in_flight,
            dead: dead.iter().map(|it| number(&it.payload)).collect(),
        }
    }
}
