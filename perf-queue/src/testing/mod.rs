//! For tests of code that enqueues, and of handlers. With the feature `testing`, as a dev-dependency.
//!
//! - [`Captured`] is a queue in memory that shows what was enqueued, and how.
//! - [`run_until_idle`] works a queue off in the test's own time, through delays, limits and retries.
//! - [`context`] and [`Outcome`] call a handler without a queue.
//!
//! ```
//! use std::time::Duration;
//! use perf_queue::testing::{self, Captured, Outcome};
//! use perf_queue::{EnqueueError, EnqueueOptions, JobContext, JobError, JobId, Queue};
//!
//! #[derive(Debug, Clone, PartialEq)]
//! struct Mail { user: u64, text: &'static str }
//!
//! // What is to be tested.
//! async fn sign_up(mails: &Queue<Mail>, user: u64) -> Result<JobId, EnqueueError<Mail>> {
//!     mails.enqueue(Mail { user, text: "welcome" }).await?;
//!     let tomorrow = EnqueueOptions::new().delay(Duration::from_secs(86_400));
//!     mails.enqueue_with(Mail { user, text: "tips" }, tomorrow).await
//! }
//!
//! async fn send(mail: Mail, cx: JobContext) -> Result<(), JobError> {
//!     match (mail.text, cx.attempt()) {
//!         ("tips", 1) => Err(JobError::retry("the server is away")),
//!         _ => Ok(()),
//!     }
//! }
//!
//! # // A test would be `#[tokio::test(start_paused = true)] async fn ..`.
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! tokio::time::pause();
//! let captured = Captured::new();
//! let mails = Queue::builder("mails")
//!     .backend(captured.clone())
//!     .key(|m: &Mail| m.user)
//!     .build().await?;
//!
//! sign_up(&mails, 7).await?;
//! let [welcome, tips] = captured.take().try_into().unwrap();
//! assert_eq!((welcome.job.text, welcome.key), ("welcome", 7));
//! assert_eq!(tips.delay, Duration::from_secs(86_400));
//!
//! // A day, in no time.
//! let run = testing::run_until_idle(&mails, send).await;
//! assert_eq!((run.completed, run.retried, run.idle), (2, 1, true));
//!
//! // A handler alone.
//! let said = send(tips.job, testing::context(1)).await;
//! assert_eq!(Outcome::of(said), Outcome::Retry("the server is away".to_owned()));
//! # Ok(())
//! # }
//! ```
//!
//! The time is tokio's, which the test pauses: `#[tokio::test(start_paused = true)]`. It goes on by itself
//! whenever everything waits for it. Without a pause, delays take as long as they do.

mod captured;
mod outcome;
mod recorder;
mod run;

pub use captured::{Captured, Enqueued};
pub use outcome::{Outcome, context};
pub use run::{Bounds, Ran, run_until_idle, run_within};
