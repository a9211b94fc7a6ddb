//! batch-aint-one, set for throughput: one batch at a time, which takes all rows that wait.

use batch_aint_one::{Batcher, BatchingPolicy, Limits, Processor};
use perf_benches::batch::{Answer, Failure, postgres};
use sqlx::PgPool;

#[derive(Debug, Clone)]
pub(crate) struct Insert(PgPool);

impl Processor for Insert {
    type Key = ();
    type Input = Answer;
    type Output = ();
    type Error = String;
    type Resources = ();

    async fn acquire_resources(&self, (): ()) -> Result<(), String> {
        Ok(())
    }

    async fn process(
        &self,
        (): (),
        rows: impl Iterator<Item = Answer> + Send,
        (): (),
    ) -> Result<Vec<()>, String> {
        let rows: Vec<Answer> = rows.collect();
        let answers = vec![(); rows.len()];
        let written = postgres::unnest(&self.0, rows).await;
        written.map_err(|error| error.to_string())?;
        Ok(answers)
    }
}

/// Spawns the batcher's task on the current runtime.
pub(crate) fn batcher(pool: PgPool) -> Batcher<Insert> {
    let limits = Limits::builder()
        .max_batch_size(1_000)
        .max_key_concurrency(1)
        .build();
    Batcher::builder()
        .name("answers")
        .processor(Insert(pool))
        .limits(limits)
        .batching_policy(BatchingPolicy::Immediate)
        .build()
}

pub(crate) async fn save(batcher: Batcher<Insert>, row: Answer) -> Result<(), Failure> {
    let added = batcher.add((), row).await;
    added.map_err(|error| error.to_string().into())
}
