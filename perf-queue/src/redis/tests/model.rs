//! Random sequences of verbs, against the model of all backends.

use proptest::prelude::*;

use crate::model::{self, CAPACITY, Differs, Front, Server};
use crate::remote::Rules;

const DIFFERS: Differs = Differs {
    front: Front::Lease,
    penalty_stays: false,
    die_by_id: false,
    replays_priority: true,
    one_owner: false,
};

#[test]
fn the_verbs_agree_with_the_model() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(server) = runtime.block_on(testkit::Redis::shared()) else {
        return;
    };
    let config = ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |((concurrency, steps) in model::case())| {
        runtime.block_on(async {
            let backend = crate::Redis::connect(server.url()).prefix(server.prefix());
            let backend = backend.allow_data_loss().capacity(CAPACITY);
            let rules = Rules { concurrency_per_key: concurrency, ..Rules::default() };
            let remote = backend.clone().open("q", Some(&rules)).await.unwrap();
            let other = backend.open("q", None).await.unwrap();
            model::run(&mut Server::new([remote, other], DIFFERS), concurrency, steps).await;
        });
    });
}
