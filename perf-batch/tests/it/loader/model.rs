//! Any sequence of calls against a model.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use perf_batch::Loader;
use proptest::prelude::*;
use tokio::task::JoinSet;

use super::poll_times;

#[derive(Debug, Clone)]
enum Call {
    Load(u8),
    LoadMany(Vec<u8>),
    LoadGroups(Vec<u8>),
    /// A load that goes away after so many polls.
    Dropped(Vec<u8>, usize),
}

#[derive(Debug, Clone)]
enum Step {
    /// At the same time.
    Calls(Vec<Call>),
    /// The database changes, and is told.
    Write(u8),
    Prime(u8, usize),
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    key: u8,
    version: u32,
    n: usize,
}

#[derive(Debug, Default)]
struct Database {
    versions: HashMap<u8, u32>,
    /// What becomes of the next queries; they succeed when it has run out.
    fates: VecDeque<bool>,
    /// Keys that were found, or are being looked for, since they were last cleared.
    asked: HashMap<u8, ()>,
    twice: Vec<u8>,
    failed: u32,
}

impl Database {
    fn rows(&self, key: u8) -> Vec<Row> {
        let version = self.versions.get(&key).copied().unwrap_or_default();
        let row = |n| Row { key, version, n };
        (0..usize::from(key % 3)).map(row).collect()
    }
}

type Shared = Arc<Mutex<Database>>;

async fn query(db: Shared, keys: Vec<u8>) -> io::Result<Vec<Row>> {
    {
        let mut db = db.lock().unwrap();
        for key in &keys {
            if db.asked.insert(*key, ()).is_some() {
                db.twice.push(*key);
            }
        }
    }
    tokio::task::yield_now().await;
    let mut db = db.lock().unwrap();
    if db.fates.pop_front().unwrap_or(true) {
        return Ok(keys.iter().flat_map(|key| db.rows(*key)).collect());
    }
    db.failed += 1;
    for key in &keys {
        db.asked.remove(key);
    }
    Err(io::Error::other("by chance"))
}

/// What the answer must be, where there is one.
fn check(rows: Vec<Arc<Row>>, expected: &[Row]) {
    let rows: Vec<Row> = rows.iter().map(|row| (**row).clone()).collect();
    assert_eq!(rows, expected);
}

async fn call(loader: Loader<u8, Row>, call: Call, model: HashMap<u8, Vec<Row>>) -> bool {
    let first = |key: &u8| model[key].get(..1).unwrap_or_default().to_vec();
    match call {
        Call::Load(key) => match loader.load(key).await {
            Ok(row) => check(row.into_iter().collect(), &first(&key)),
            Err(_) => return false,
        },
        Call::LoadMany(keys) => match loader.load_many(keys.clone()).await {
            Ok(rows) => {
                assert_eq!(rows.len(), keys.len());
                for (key, row) in keys.iter().zip(rows) {
                    check(row.into_iter().collect(), &first(key));
                }
            }
            Err(_) => return false,
        },
        Call::LoadGroups(keys) => match loader.load_groups(keys.clone()).await {
            Ok(groups) => {
                assert_eq!(groups.len(), keys.len());
                for (key, group) in keys.iter().zip(groups) {
                    check(group, &model[key]);
                }
            }
            Err(_) => return false,
        },
        Call::Dropped(keys, polls) => {
            poll_times(polls, &mut Box::pin(loader.load_many(keys))).await;
        }
    }
    true
}

async fn run(steps: Vec<Step>, fates: Vec<bool>, max_batch_size: usize, concurrent: usize) {
    let db = Shared::default();
    db.lock().unwrap().fates = fates.into();
    let loader = Loader::builder(Arc::clone(&db), query)
        .key(|row: &Row| row.key)
        .max_batch_size(max_batch_size)
        .max_concurrent_batches(concurrent)
        .build();
    let mut primed: HashMap<u8, Vec<Row>> = HashMap::new();
    for step in steps {
        match step {
            Step::Write(key) => {
                {
                    let mut db = db.lock().unwrap();
                    *db.versions.entry(key).or_default() += 1;
                    db.asked.remove(&key);
                }
                primed.remove(&key);
                loader.clear(&key);
            }
            Step::Prime(key, rows) => {
                let row = |n| Row {
                    key,
                    version: u32::MAX,
                    n,
                };
                let rows: Vec<Row> = (0..rows).map(row).collect();
                loader.prime_group(key, rows.clone());
                primed.insert(key, rows);
            }
            Step::Calls(calls) => {
                let model: HashMap<u8, Vec<Row>> = {
                    let db = db.lock().unwrap();
                    let rows = |key| primed.get(&key).cloned().unwrap_or_else(|| db.rows(key));
                    (0..KEYS).map(|key| (key, rows(key))).collect()
                };
                let failed_before = db.lock().unwrap().failed;
                let mut tasks = JoinSet::new();
                for it in calls {
                    tasks.spawn(call(loader.clone(), it, model.clone()));
                }
                let all_answered = tasks.join_all().await.into_iter().all(|ok| ok);
                let failed = db.lock().unwrap().failed > failed_before;
                assert!(all_answered || failed, "an error without a failed query");
            }
        }
        let db = db.lock().unwrap();
        assert!(db.twice.is_empty(), "queried twice: {:?}", db.twice);
    }
}

const KEYS: u8 = 8;

fn calls() -> impl Strategy<Value = Call> {
    let keys = || prop::collection::vec(0..KEYS, 0..8);
    prop_oneof![
        (0..KEYS).prop_map(Call::Load),
        keys().prop_map(Call::LoadMany),
        keys().prop_map(Call::LoadGroups),
        (keys(), 0..3_usize).prop_map(|(keys, polls)| Call::Dropped(keys, polls)),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec(calls(), 1..5).prop_map(Step::Calls),
        1 => (0..KEYS).prop_map(Step::Write),
        1 => (0..KEYS, 0..3_usize).prop_map(|(key, rows)| Step::Prime(key, rows)),
    ];
    prop::collection::vec(step, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_answer_is_the_models_and_no_key_is_queried_twice(
        steps in steps(),
        fates in prop::collection::vec(any::<bool>(), 0..6),
        max_batch_size in 1..5_usize,
        concurrent in 1..3_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps, fates, max_batch_size, concurrent));
    }
}
