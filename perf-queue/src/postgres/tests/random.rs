//! Several processes at once that do anything.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::support::*;
use crate::postgres::PostgresRemote;
use crate::remote::{Granted, How, Quota, Remote, Rules, Want};
use crate::{JobId, Postgres, Scope};

#[derive(Default)]
struct World {
    /// And by which process.
    added: BTreeMap<JobId, u64>,
    over: BTreeSet<JobId>,
    dead: usize,
    running: BTreeMap<Vec<u8>, BTreeSet<JobId>>,
    /// The first attempts of each key, in their order.
    first: BTreeMap<Vec<u8>, Vec<JobId>>,
}

impl World {
    fn start(&mut self, job: &Granted, rules: &Rules) {
        let id = job.lease.id;
        assert!(self.added.contains_key(&id) && !self.over.contains(&id));
        let running = self.running.entry(job.key.clone()).or_default();
        assert!(running.insert(id), "two leases of one job");
        if let Some(n) = rules.concurrency_per_key
            && !job.key.is_empty()
        {
            assert!(
                running.len() <= n as usize,
                "{} jobs of a key",
                running.len()
            );
        }
        if job.attempt == 1 {
            let first = self.first.entry(job.key.clone()).or_default();
            // Snoozed or released, it runs again as the first attempt.
            if !first.contains(&id) {
                first.push(id);
            }
        }
    }

    fn end(&mut self, job: &Granted, how: &How) {
        self.running
            .get_mut(&job.key)
            .unwrap()
            .remove(&job.lease.id);
        if matches!(how, How::Done | How::Dead { .. }) {
            self.over.insert(job.lease.id);
            self.dead += usize::from(matches!(how, How::Dead { .. }));
        }
    }
}

fn some_end(rng: &mut fastrand::Rng) -> How {
    let after = ms(rng.u64(0..8));
    match rng.u32(0..10) {
        0 => How::Retry {
            after,
            error: "again".to_owned(),
        },
        1 => How::Snooze {
            after,
            penalty: [None, Some(Scope::Key), Some(Scope::Queue)][rng.usize(0..3)],
        },
        2 => How::Released,
        3 if rng.bool() => How::Dead {
            error: "never".to_owned(),
        },
        _ => How::Done,
    }
}

async fn process(
    remote: &PostgresRemote,
    world: &RefCell<World>,
    rules: &Rules,
    seed: u64,
    n: usize,
) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut held: Vec<Granted> = Vec::new();
    let mut left = n;
    loop {
        if left > 0 {
            let size = rng.usize(1..=20).min(left);
            left -= size;
            let mut batch = Vec::new();
            for _ in 0..size {
                let key = ["", "a", "b", "c", "d"][rng.usize(0..5)];
                batch.push(job(key));
            }
            world
                .borrow_mut()
                .added
                .extend(ids(&batch).into_iter().map(|id| (id, seed)));
            add(remote, &batch).await;
        }
        rng.shuffle(&mut held);
        let mut ended = Vec::new();
        for job in held.drain(rng.usize(0..=held.len())..) {
            let how = some_end(&mut rng);
            // Before the call, since others may start it as soon as the server has it.
            world.borrow_mut().end(&job, &how);
            ended.push(end(&job, how));
        }
        let leases: Vec<_> = held.iter().map(|job| job.lease).collect();
        let ask = Want {
            within: ms(rng.u64(0..5)),
            ..want(rng.usize(0..12))
        };
        let (answer, lost) =
            tokio::join!(remote.exchange(&ended, ask), remote.extend(&leases, LEASE));
        let answer = answer.unwrap();
        assert_eq!((answer.lost, lost.unwrap()), (vec![], vec![]));
        for job in &answer.granted {
            world.borrow_mut().start(job, rules);
        }
        held.extend(answer.granted);
        {
            let world = world.borrow();
            if left == 0 && held.is_empty() && world.over.len() == world.added.len() {
                return;
            }
        }
        tokio::time::sleep(ms(rng.u64(0..3))).await;
    }
}

async fn run(rules: Rules, seed: u64, jobs: usize) {
    let Some(server) = testkit::Postgres::shared().await else {
        return;
    };
    let pool = pool(&server.url()).await;
    let schema = testkit::unique("queue");
    let backend = Postgres::new(pool.clone()).schema(&schema);
    let remote = backend.clone().open("q", Some(&rules)).await.unwrap();
    let other = backend.open("q", None).await.unwrap();
    let world = RefCell::new(World::default());
    let all = async {
        tokio::join!(
            process(&remote, &world, &rules, seed, jobs),
            process(&other, &world, &rules, seed + 1, jobs),
            process(&other, &world, &rules, seed + 2, jobs),
        )
    };
    if Box::pin(tokio::time::timeout(Duration::from_secs(60), all))
        .await
        .is_err()
    {
        let counts = remote.counts().await.unwrap();
        panic!("stuck with {rules:?}, seed {seed}: {counts:?}");
    }
    let counts = remote.counts().await.unwrap();
    assert_eq!(
        (
            counts.ready,
            counts.scheduled,
            counts.limited,
            counts.in_flight
        ),
        (0, 0, 0, 0)
    );
    assert_eq!(counts.dead as usize, world.borrow().dead);
    if rules.concurrency_per_key == Some(1) {
        let world = world.borrow();
        for (key, first) in world.first.iter().filter(|(key, _)| !key.is_empty()) {
            for by in seed..seed + 3 {
                let theirs: Vec<_> = first.iter().filter(|id| world.added[id] == by).collect();
                assert!(theirs.is_sorted(), "{key:?} out of order");
            }
        }
    }
    // Else it would wait for ever.
    let passed = format!(
        "SELECT count(*) FROM {schema}.keys k JOIN {schema}.queues q USING (queue)
         WHERE k.place IN (2, 4) AND k.open_at < q.passed"
    );
    let passed: i64 = sqlx::query_scalar(AssertSqlSafe(passed))
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(passed, 0);
    // Nothing is left behind once the keys are forgotten.
    remote.forget_keys().await;
    let left: (i64, i64, i64, i64, i64) = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT (SELECT count(*) FROM {schema}.jobs), (SELECT count(*) FROM {schema}.leases),
            (SELECT count(*) FROM {schema}.arrivals), (SELECT count(*) FROM {schema}.keys),
            (SELECT sum(n)::bigint FROM {schema}.counts)"
    )))
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(left, (0, 0, 0, 0, 0));
}

#[tokio::test]
async fn whatever_processes_do_no_job_is_lost_and_nothing_is_left_behind() {
    let rate = |quota, burst| {
        Some(Quota {
            quota,
            period: ms(50),
            burst,
        })
    };
    let seed = fastrand::u64(0..1 << 40);
    for (n, rules) in [
        (None, None, None),
        (None, None, Some(1)),
        (None, None, Some(3)),
        (rate(50, 1), None, None),
        (rate(50, 10), rate(20, 1), Some(2)),
        (None, rate(20, 5), Some(1)),
    ]
    .into_iter()
    .enumerate()
    {
        let (queue, key, concurrency_per_key) = rules;
        let rules = Rules {
            queue,
            key,
            concurrency_per_key,
        };
        Box::pin(run(rules, seed + 100 * n as u64, 70)).await;
    }
}
