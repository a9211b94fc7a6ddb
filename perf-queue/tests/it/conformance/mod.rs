//! What every backend keeps to: generic functions, which each backend's file wires to it.

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
pub(crate) mod durable;
pub(crate) mod enqueue;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) mod faults;
pub(crate) mod limits;
pub(crate) mod metrics;
pub(crate) mod order;
pub(crate) mod outcomes;
pub(crate) mod pruning;
pub(crate) mod rates;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) mod shared;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod transactional;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use perf_queue::{JobContext, JobError, Queue, QueueBackend, QueueBuilder, Workers};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// A job: the `n`th of its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) key: u32,
    pub(crate) n: u32,
}

pub(crate) fn job(key: u32, n: u32) -> Job {
    Job { key, n }
}

/// Long enough for a machine that does ten other things; reached only by a queue that hangs.
pub(crate) const HANGS: Duration = Duration::from_secs(30);

/// A place for the jobs of one test's queue.
pub(crate) trait Place: Clone + Send + Sync + 'static {
    type Backend: QueueBackend<Job, u32> + QueueBackend<Job, ()>;

    /// The backend with this capacity; each time of the same queue, where it outlives its handles.
    fn backend(&self, capacity: usize) -> Self::Backend;

    /// The same place, for another runtime: connections belong to the one that made them.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    fn apart(&self) -> impl Future<Output = Self> + Send {
        std::future::ready(self.clone())
    }

    fn builder(&self) -> QueueBuilder<Job, u32, Self::Backend> {
        self.builder_of(10_000)
    }

    fn builder_of(&self, capacity: usize) -> QueueBuilder<Job, u32, Self::Backend> {
        Queue::builder("q")
            .backend(self.backend(capacity))
            .key(|job: &Job| job.key)
    }
}

/// Workers that tell what they start, and then do as `handle` says.
pub(crate) fn telling<H, F>(
    queue: &Queue<Job>,
    count: usize,
    handle: H,
) -> (Workers, mpsc::UnboundedReceiver<(Job, JobContext)>)
where
    H: Fn(Job, JobContext) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), JobError>> + Send + 'static,
{
    let (tell, told) = mpsc::unbounded_channel();
    let handle = Arc::new(handle);
    let workers = queue
        .workers(count, move |job: Job, cx: JobContext| {
            let _ = tell.send((job.clone(), cx.clone()));
            handle(job, cx)
        })
        .spawn();
    (workers, told)
}

/// The next job that starts.
pub(crate) async fn next(
    told: &mut mpsc::UnboundedReceiver<(Job, JobContext)>,
) -> (Job, JobContext) {
    tokio::time::timeout(HANGS, told.recv())
        .await
        .expect("a job starts")
        .expect("there are workers")
}

pub(crate) async fn drained(queue: &Queue<Job>) {
    tokio::time::timeout(HANGS, queue.drain())
        .await
        .expect("the queue empties")
        .expect("the backend answers");
}

/// The tests of a backend, whose place `$place` makes: `None` to skip, as the server is missing.
macro_rules! conformance {
    ($place:path) => {
        $crate::conformance::conformance! { @ $place:
            enqueue::{
                a_job_runs_once_with_its_id_and_context,
                a_batch_goes_in_whole_and_in_order,
                each_job_of_a_batch_has_options_of_its_own,
                any_number_of_jobs_may_fall_due_at_once,
                a_full_queue_gives_the_job_back_or_waits,
                a_batch_that_never_fits_comes_back,
                a_closed_queue_gives_jobs_back,
                a_delayed_job_runs_when_its_time_has_come,
                a_unique_job_is_enqueued_once,
                a_unique_name_may_be_long,
                the_trace_travels_with_the_job,
                stats_say_where_jobs_are,
            }
            order::{
                jobs_of_a_key_run_one_after_another_in_order,
                a_retry_blocks_its_key_where_jobs_run_one_at_a_time,
                higher_priorities_go_first_within_their_key,
                a_key_with_many_jobs_does_not_delay_another,
                a_keyless_queue_starts_jobs_in_order,
            }
            limits::{
                the_limit_over_all_is_kept_and_used,
                the_limit_of_a_key_holds_up_no_other_key,
                concurrency_per_key_is_never_exceeded,
                a_penalty_stops_its_key_alone,
                a_penalty_stops_the_queue,
                a_penalty_stops_a_queue_that_is_running_fast,
                nothing_starts_once_a_running_queue_is_paused,
                nothing_starts_while_paused,
                limits_change_while_running,
            }
            rates::{
                keys_have_rates_of_their_own_by_a_closure,
                a_delayed_job_brings_the_rate_of_its_key,
                a_replayed_letter_brings_the_rate_of_its_key,
            }
            metrics::{
                every_backend_has_the_metrics_of_the_contract,
            }
            pruning::{
                dead_letters_are_kept_up_to_a_number_and_the_dropped_are_counted,
                no_dead_letter_is_kept_where_none_shall_be,
                old_dead_letters_are_purged,
                dead_letters_go_when_their_time_is_over,
            }
            outcomes::{
                a_failing_job_is_tried_again_and_then_dies_with_its_history,
                a_dead_letter_runs_again_when_replayed,
                what_is_no_dead_letter_is_not_replayed_into_a_full_queue,
                dead_letters_are_purged,
                a_panic_is_a_failed_attempt,
                a_discarded_job_is_gone,
                shutdown_gives_unfinished_jobs_back,
            }
        }
    };
    (@ $place:path: $($module:ident::{$($test:ident,)*})*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if let Some(place) = $place().await {
                    $crate::conformance::$module::$test(place).await;
                }
            }
        )*)*
    };
}
pub(crate) use conformance;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
pub(crate) use durable::durable;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) use faults::nothing_is_lost;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) use shared::shared;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use transactional::transactions;
