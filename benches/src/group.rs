use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use tokio::runtime::Runtime;

/// One way of doing a group's work.
pub struct Entry {
    name: &'static str,
    run: Box<dyn FnMut() -> Duration>,
}

impl Entry {
    /// An entry whose `run` does the work once and returns the time that counts, so that
    /// preparation (a fresh table, new rows) stays outside it.
    pub fn new(name: &'static str, run: impl FnMut() -> Duration + 'static) -> Self {
        Self {
            name,
            run: Box::new(run),
        }
    }

    /// An entry that does the work once by `run`, all of which counts.
    pub fn timed<T>(name: &'static str, mut run: impl FnMut() -> T + 'static) -> Self {
        Self::new(name, move || {
            let start = Instant::now();
            std::hint::black_box(run());
            start.elapsed()
        })
    }

    /// An asynchronous entry; its future returns the time that counts.
    pub fn future<F>(
        name: &'static str,
        rt: &Arc<Runtime>,
        mut run: impl FnMut() -> F + 'static,
    ) -> Self
    where
        F: Future<Output = Duration>,
    {
        let rt = Arc::clone(rt);
        Self::new(name, move || rt.block_on(run()))
    }

    /// The entry's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Does the work once; returns the time that counts.
    pub fn run(&mut self) -> Duration {
        (self.run)()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// One piece of work on one backend, done by every entry.
#[derive(Debug)]
pub struct Group {
    name: String,
    elements: u64,
    entries: Vec<Entry>,
    rounds: Option<usize>,
    held: Vec<Box<dyn Any>>,
}

impl Group {
    /// A group named like `batch/sqlite/1000`; one run of an entry handles `elements` elements.
    pub fn new(name: impl Into<String>, elements: u64, entries: Vec<Entry>) -> Self {
        Self {
            name: name.into(),
            elements,
            entries,
            rounds: None,
            held: Vec::new(),
        }
    }

    /// Runs in the ratios only, at most so many rounds: for work that takes many seconds.
    #[must_use]
    pub fn at_most(mut self, rounds: usize) -> Self {
        self.rounds = Some(rounds);
        self
    }

    /// Keeps what the entries need, such as a proxy, for as long as the group is there.
    #[must_use]
    pub fn holding(mut self, resource: impl Any) -> Self {
        self.held.push(Box::new(resource));
        self
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// How many rounds to run of `wanted`.
    pub(crate) fn rounds(&self, wanted: usize) -> usize {
        self.rounds.map_or(wanted, |most| most.min(wanted))
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The entries, `ours` among them.
    pub fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }
}

/// The `main` of a criterion bench: builds the groups on a multi-thread runtime and runs every
/// entry, with the throughput in elements.
///
/// # Panics
///
/// Panics if the runtime cannot be started.
#[expect(
    clippy::expect_used,
    reason = "a bench without a runtime has nothing to measure"
)]
pub fn criterion_main(groups: impl FnOnce(&Arc<Runtime>) -> Vec<Group>) {
    let rt = Arc::new(Runtime::new().expect("the tokio runtime starts"));
    let mut criterion = Criterion::default().configure_from_args();
    for mut group in groups(&rt) {
        if group.rounds.is_some() {
            eprintln!("{}: left to the ratios, as it takes long", group.name);
            continue;
        }
        let mut bench = criterion.benchmark_group(&group.name);
        // Flat, since the work of some entries takes seconds.
        bench
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .throughput(Throughput::Elements(group.elements));
        for entry in &mut group.entries {
            bench.bench_function(entry.name, |b| {
                b.iter_custom(|n| (0..n).map(|_| entry.run()).sum());
            });
        }
        bench.finish();
    }
    criterion.final_summary();
}
