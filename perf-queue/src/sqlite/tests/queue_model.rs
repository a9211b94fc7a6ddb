//! The queue on a file against the model of all backends; beside it the journal alone has a model of
//! its own, of what is in the file.

use proptest::prelude::*;

use super::*;
use crate::backend::Open;
use crate::model::{self, CAPACITY, Differs, Front, Local};

const DIFFERS: Differs = Differs {
    front: Front::Last,
    penalty_stays: true,
    die_by_id: false,
    replays_priority: true,
    one_owner: true,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_what_the_model_does((concurrency, steps) in model::case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = Dir::new();
            let open = || async {
                loop {
                    let sqlite = Sqlite::open(dir.file()).capacity(CAPACITY);
                    match sqlite.open(model::parts(concurrency)).await {
                        Ok(ready) => break ready,
                        // It is being closed.
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
            };
            model::run(&mut Local::new(open, DIFFERS, false).await, concurrency, steps).await;
        });
    }
}
