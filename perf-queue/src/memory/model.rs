//! The queue in memory against the model of all backends.

use proptest::prelude::*;

use crate::Memory;
use crate::backend::Open;
use crate::model::{self, CAPACITY, Differs, Front, Local};

const DIFFERS: Differs = Differs {
    front: Front::Last,
    penalty_stays: true,
    die_by_id: false,
    replays_priority: false,
    one_owner: false,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_queue_does_what_the_model_does((concurrency, steps) in model::case()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let open = || async { Memory::bounded(CAPACITY).open(model::parts(concurrency)).await.unwrap() };
            model::run(&mut Local::new(open, DIFFERS, true).await, concurrency, steps).await;
        });
    }
}
