//! Limits that change while jobs wait, on a server whose clock can be moved: what the new limit allows,
//! no more and not much later.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use proptest::prelude::*;

use crate::remote::{Ended, Granted, How, NewJob, Quota, Remote, Want};
use crate::{JobId, Scope};

/// A server's clock as the queue sees it.
pub(crate) trait Clock: Remote {
    /// Moves it forward; time goes on as well.
    fn advance(&self, by: Duration) -> impl Future<Output = ()>;
}

#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Time passes, and then so many jobs are wanted.
    Take(u16, usize),
    Limit(Option<Quota>),
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    scope: Scope,
    keys: u8,
    changes: Vec<Change>,
}

const MS: Duration = Duration::from_millis(1);
const JOBS: u64 = 150;

fn limit() -> impl Strategy<Value = Option<Quota>> {
    let period = prop::sample::select(vec![20_u32, 60, 200, 1_000, 60_000]);
    let quota = (1..9_u32, period, 0..3_u32).prop_map(|(quota, period, kind)| Quota {
        quota,
        period: MS * period,
        burst: [1, quota.div_ceil(2), quota][kind as usize],
    });
    prop::option::weighted(0.9, quota)
}

fn change() -> impl Strategy<Value = Change> {
    let wait = prop_oneof![3 => 0..40_u16, 2 => 0..400_u16, 1 => 0..5_000_u16];
    prop_oneof![
        5 => (wait, 1..6_usize).prop_map(|(ms, jobs)| Change::Take(ms, jobs)),
        2 => limit().prop_map(Change::Limit),
    ]
}

pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let scope = prop_oneof![Just(Scope::Queue), Just(Scope::Key)];
    (scope, 1..4_u8, prop::collection::vec(change(), 1..40)).prop_map(|(scope, keys, changes)| {
        Case {
            scope,
            keys,
            changes,
        }
    })
}

/// A queue with jobs that were all enqueued at once, so that a grant's time is counted from then.
struct Run<'a, R> {
    remote: &'a R,
    ended: Vec<Ended>,
    /// Of each scope, when its jobs were to start.
    grants: BTreeMap<Vec<u8>, Vec<Duration>>,
    scope: Scope,
    limit: Option<Quota>,
}

fn job(key: &[u8], ids: u64, number: u64) -> NewJob {
    NewJob {
        id: JobId::new(ids, number),
        key: key.to_vec(),
        payload: Vec::new(),
        delay: Duration::ZERO,
        priority: 0,
        unique: None,
        rate: None,
        trace: String::new(),
    }
}

impl<'a, R: Clock> Run<'a, R> {
    async fn new(remote: &'a R, scope: Scope, keys: u8) -> Self {
        let ids = fastrand::u64(..);
        let jobs: Vec<NewJob> = (0..JOBS).map(|n| job(&[n as u8 % keys], ids, n)).collect();
        remote.enqueue(&jobs).await.unwrap().unwrap();
        Self {
            remote,
            ended: Vec::new(),
            grants: BTreeMap::new(),
            scope,
            limit: None,
        }
    }

    async fn set(&mut self, limit: Option<Quota>) {
        self.remote.set_rate(self.scope, limit).await.unwrap();
        self.limit = limit;
    }

    /// Takes up to so many jobs; how many there were.
    async fn take(&mut self, jobs: usize) -> Result<usize, TestCaseError> {
        let mut got = 0;
        while got < jobs {
            let want = Want {
                jobs: jobs - got,
                within: MS,
                lease: Duration::from_secs(3_600),
            };
            let answer = self.remote.exchange(&self.ended, want).await.unwrap();
            self.ended.clear();
            if answer.granted.is_empty() && answer.next != Some(Duration::ZERO) {
                break;
            }
            got += answer.granted.len();
            for granted in answer.granted {
                self.ended.push(Ended {
                    lease: granted.lease,
                    how: How::Done,
                });
                self.note(granted)?;
            }
        }
        Ok(got)
    }

    /// The limit in force holds in the window that ends with this grant, whatever was granted before.
    fn note(&mut self, granted: Granted) -> Result<(), TestCaseError> {
        let at = granted.age + granted.starts;
        let scope = match self.scope {
            Scope::Queue => Vec::new(),
            Scope::Key => granted.key,
        };
        let times = self.grants.entry(scope).or_default();
        times.push(at);
        if let Some(limit) = self.limit {
            let window = times
                .iter()
                .filter(|time| **time <= at && **time + limit.period > at);
            let n = window.count();
            prop_assert!(
                n <= limit.quota as usize,
                "{n} grants at {at:?} by {limit:?}: {times:?}"
            );
        }
        Ok(())
    }
}

pub(crate) async fn holds(remote: &impl Clock, case: Case) -> Result<(), TestCaseError> {
    let mut run = Run::new(remote, case.scope, case.keys).await;
    for change in case.changes {
        match change {
            Change::Take(ms, jobs) => {
                remote.advance(MS * u32::from(ms)).await;
                run.take(jobs).await?;
            }
            Change::Limit(limit) => run.set(limit).await,
        }
    }
    // Whatever was granted has left the period by then.
    if let Some(limit) = run.limit {
        remote.advance(limit.period + MS).await;
    }
    let left = JOBS as usize - run.grants.values().map(Vec::len).sum::<usize>();
    let due = if case.scope == Scope::Key {
        usize::from(case.keys)
    } else {
        1
    };
    let got = run.take(left.min(due)).await?;
    prop_assert!(
        got == left.min(due),
        "{got} after a period of {:?}",
        run.limit
    );
    Ok(())
}

/// Other rates again and again, sooner than a period passes, cost hardly any of what the lowest allows.
pub(crate) async fn is_used(remote: &impl Clock, scope: Scope) {
    let mut run = Run::new(remote, scope, 1).await;
    let (mut quota, steps) = (50, 400);
    for step in 0..steps {
        if step % 30 == 0 {
            quota = if quota == 50 { 60 } else { 50 };
            run.set(Some(Quota {
                quota,
                period: MS * 1_000,
                burst: 1,
            }))
            .await;
        }
        remote.advance(MS * 5).await;
        run.take(1).await.unwrap();
    }
    let granted = run.grants.values().map(Vec::len).sum::<usize>();
    let allowed = 50 * steps * 5 / 1_000;
    assert!(
        granted * 100 >= allowed * 95,
        "{granted} of at least {allowed}"
    );
}

/// A limit that was a mistake, with a grant or a burst that its period will hold for long, binds nobody
/// once it is corrected.
pub(crate) async fn is_corrected(remote: &impl Clock, scope: Scope) {
    let hour = MS * 3_600_000;
    for burst in [1, 4] {
        let mut run = Run::new(remote, scope, 1).await;
        run.set(Some(Quota {
            quota: 4,
            period: hour,
            burst,
        }))
        .await;
        assert_eq!(run.take(9).await.unwrap(), burst as usize);
        run.set(Some(Quota {
            quota: 100,
            period: MS * 1_000,
            burst: 1,
        }))
        .await;
        remote.advance(MS * 10).await;
        assert_eq!(run.take(1).await.unwrap(), 1);
        run.set(None).await;
        run.take(JOBS as usize).await.unwrap();
        remote
            .exchange(
                &run.ended,
                Want {
                    jobs: 0,
                    within: MS,
                    lease: hour,
                },
            )
            .await
            .unwrap();
        remote.advance(hour).await;
    }
}
