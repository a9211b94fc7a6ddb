//! Random sequences of verbs, against the model of all backends.

use proptest::prelude::*;

use super::support::*;
use crate::Postgres;
use crate::model::{self, CAPACITY, Differs, Front, Server};
use crate::remote::Rules;

const DIFFERS: Differs = Differs {
    front: Front::Place,
    penalty_stays: false,
    die_by_id: true,
    replays_priority: true,
    one_owner: false,
};

#[test]
fn the_verbs_agree_with_the_model() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(server) = runtime.block_on(testkit::Postgres::shared()) else {
        return;
    };
    let pool = runtime.block_on(pool(&server.url()));
    let backend = Postgres::new(pool).schema(testkit::unique("queue"));
    let backend = backend.capacity(CAPACITY);
    let config = ProptestConfig {
        cases: 50,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |((concurrency, steps) in model::case())| {
        runtime.block_on(async {
            let rules = Rules { concurrency_per_key: concurrency, ..Rules::default() };
            let name = testkit::unique("model");
            let remote = backend.clone().open(&name, Some(&rules)).await.unwrap();
            let other = backend.clone().open(&name, None).await.unwrap();
            model::run(&mut Server::new([remote, other], DIFFERS), concurrency, steps).await;
        });
    });
}
