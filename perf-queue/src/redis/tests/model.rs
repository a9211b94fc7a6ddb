//! Random sequences of verbs, against the model of all backends.

use proptest::prelude::*;

use crate::model::{self, CAPACITY, Differs, Front, Server};
use crate::redis::packs::Packing;
use crate::redis::tests::support::SMALL_PACKS;
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
    // Small enough to be packed, taken apart, leased as a whole and not, however few the jobs are.
    for packing in [Packing::USUAL, SMALL_PACKS] {
        agree(&runtime, &server, packing);
    }
}

fn agree(runtime: &tokio::runtime::Runtime, server: &testkit::Redis, packing: Packing) {
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
            let mut remote = backend.clone().open("q", Some(&rules)).await.unwrap();
            remote.packing = packing;
            let other = backend.open("q", None).await.unwrap();
            model::run(&mut Server::new([remote, other], DIFFERS), concurrency, steps).await;
        });
    });
}
