//! The rule that keeps stale values out, in many of its interleavings: the very files of the
//! crate, on the primitives of shuttle, whose scheduler runs one thread at a time and chooses at
//! each lock and each atomic who goes on.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the crate uses what the model does not"
)]

#[path = "../src/core/flights.rs"]
mod flights;
#[path = "../src/core/versions.rs"]
mod versions;

mod sync {
    pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use shuttle::sync::{Arc, Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
}

#[cfg(test)]
mod model {
    use std::collections::HashMap;
    use std::hash::RandomState;

    use shuttle::sync::atomic::{AtomicU64, Ordering};
    use shuttle::sync::{Arc, Mutex};
    use shuttle::thread;

    use crate::flights::{Entered, Flights};
    use crate::versions::{Stamp, Tag, Versions};

    const RUNS: usize = 2_000;

    /// A cache of one key, whose entries have one tag, as `Table` makes one of these parts.
    struct Model {
        flights: Flights<u8, Arc<Flight>, RandomState>,
        versions: Versions,
        entries: Mutex<HashMap<u8, Entry>>,
        /// The version in the database, and the newest of which an invalidation has returned.
        written: AtomicU64,
        published: AtomicU64,
    }

    #[derive(Clone)]
    struct Entry {
        value: u64,
        stamp: Stamp,
        tags: Vec<Arc<Tag>>,
    }

    struct Flight {
        over: Mutex<Option<Entry>>,
    }

    impl Model {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                flights: Flights::new(RandomState::new()),
                versions: Versions::new(),
                entries: Mutex::new(HashMap::new()),
                written: AtomicU64::new(0),
                published: AtomicU64::new(0),
            })
        }

        fn visible(&self) -> Option<u64> {
            let entry = self.entries.lock().unwrap().get(&1).cloned()?;
            let current = self.versions.are_current(entry.stamp, &entry.tags);
            current.then_some(entry.value)
        }

        fn get_or_load(&self) -> u64 {
            if let Some(value) = self.visible() {
                return value;
            }
            let asked = self.versions.now();
            loop {
                let flight = Arc::new(Flight {
                    over: Mutex::new(None),
                });
                let mine = Arc::clone(&flight);
                let join = |flight: &Arc<Flight>| {
                    let over = flight.over.lock().unwrap().is_some();
                    (!over).then(|| Arc::clone(flight))
                };
                let look = || self.visible();
                match self.flights.enter(&1, &self.versions, look, join, || mine) {
                    Entered::Found(value) => return value,
                    Entered::Joined(flight, stamp) => {
                        let entry = loop {
                            if let Some(entry) = flight.over.lock().unwrap().clone() {
                                break entry;
                            }
                            thread::yield_now();
                        };
                        if stamp >= asked || self.versions.are_current(stamp, &entry.tags) {
                            return entry.value;
                        }
                    }
                    Entered::Leads(ticket) => {
                        let value = self.written.load(Ordering::SeqCst);
                        thread::yield_now();
                        let entry = Entry {
                            value,
                            stamp: ticket.stamp,
                            tags: vec![self.versions.tag("tag")],
                        };
                        self.flights.finish(&ticket, |key| {
                            self.entries.lock().unwrap().insert(key, entry.clone());
                        });
                        *flight.over.lock().unwrap() = Some(entry);
                        return value;
                    }
                }
            }
        }

        fn write(&self, invalidate: impl FnOnce(&Self)) {
            let version = self.written.fetch_add(1, Ordering::SeqCst) + 1;
            invalidate(self);
            self.published.fetch_max(version, Ordering::SeqCst);
        }

        fn read(&self) {
            let published = self.published.load(Ordering::SeqCst);
            let seen = self.get_or_load();
            assert!(seen >= published, "saw {seen}, {published} was published");
        }
    }

    /// What is read is not older than what was published before.
    fn never_stale(invalidate: fn(&Model)) {
        shuttle::check_random(
            move || {
                let model = Model::new();
                let mut threads = Vec::new();
                for _ in 0..3 {
                    let model = Arc::clone(&model);
                    threads.push(thread::spawn(move || (0..2).for_each(|_| model.read())));
                }
                for _ in 0..2 {
                    model.write(invalidate);
                    model.read();
                }
                for thread in threads {
                    thread.join().unwrap();
                }
            },
            RUNS,
        );
    }

    #[test]
    fn an_invalidation_of_a_key_is_never_followed_by_a_stale_read() {
        never_stale(|model| {
            (model.flights).supersede(&1, || model.entries.lock().unwrap().remove(&1));
        });
    }

    #[test]
    fn an_invalidation_of_a_tag_is_never_followed_by_a_stale_read() {
        never_stale(|model| model.versions.invalidate_tag("tag"));
    }

    #[test]
    fn an_invalidation_of_everything_is_never_followed_by_a_stale_read() {
        never_stale(|model| model.versions.invalidate_all());
    }

    /// The test can fail: without the list of loads in flight it does.
    #[test]
    #[should_panic(expected = "was published")]
    fn removing_the_entry_alone_would_be_followed_by_stale_reads() {
        never_stale(|model| {
            model.entries.lock().unwrap().remove(&1);
        });
    }
}
