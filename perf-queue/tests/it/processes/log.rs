//! What processes write down of what they do, each in a file of its own: a line is one write, so it is
//! there once it is written, however the process ends.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::Task;

/// The monotonic clock, which all processes of a machine share, as they do not share an `Instant`.
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    let nanos = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    Duration::from_nanos(nanos)
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// It is about to be enqueued.
    Enqueue,
    /// It was enqueued: the queue said so.
    Added,
    Start {
        id: String,
        attempt: u32,
    },
    /// The handler is done with it.
    End,
    /// The handler says that it is to be tried again.
    Retry,
}

#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) at: Duration,
    pub(super) task: Task,
    pub(super) what: What,
}

/// The file of this process.
pub(super) struct Log(File);

impl Log {
    pub(super) fn open(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self(file.unwrap())
    }

    pub(super) fn add(&self, at: Duration, task: Task, what: &What) {
        let Task { producer, key, n } = task;
        let what = match what {
            What::Enqueue => "enqueue".to_owned(),
            What::Added => "added".to_owned(),
            What::Start { id, attempt } => format!("start {id} {attempt}"),
            What::End => "end".to_owned(),
            What::Retry => "retry".to_owned(),
        };
        let line = format!("{} {producer} {key} {n} {what}\n", at.as_nanos());
        (&self.0).write_all(line.as_bytes()).unwrap();
    }
}

/// What a process wrote. A last line without an end was cut when it was killed.
pub(super) fn read(path: &Path) -> Vec<Event> {
    // One that was killed at once has not even made it.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
    whole
        .map(|line| event(line).unwrap_or_else(|| panic!("{line:?}")))
        .collect()
}

fn event(line: &str) -> Option<Event> {
    let mut words = line.split_whitespace();
    let at = Duration::from_nanos(words.next()?.parse().ok()?);
    let mut number = || words.next()?.parse().ok();
    let task = Task {
        producer: number()?,
        key: number()?,
        n: number()?,
    };
    let what = match words.next()? {
        "enqueue" => What::Enqueue,
        "added" => What::Added,
        "start" => What::Start {
            id: words.next()?.to_owned(),
            attempt: words.next()?.parse().ok()?,
        },
        "end" => What::End,
        "retry" => What::Retry,
        _ => return None,
    };
    Some(Event { at, task, what })
}
