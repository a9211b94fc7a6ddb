//! What every engine must do.

use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::core::versions::Versions;

struct Held {
    engine: Engines<u64, u64>,
    clock: Clock,
    meters: Arc<Meters>,
}

fn held(engine: Engine, capacity: u64, weigher: Option<Weigher<u64, u64>>) -> Held {
    let (clock, meters) = (Clock::start(), Arc::new(Meters::new("test".into(), None)));
    let setup = Setup {
        capacity,
        weigher,
        meters: Arc::clone(&meters),
    };
    let engine = Engines::new(engine, setup);
    Held {
        engine,
        clock,
        meters,
    }
}

impl Held {
    fn put(&self, key: u64, value: u64, useful_for: Option<Duration>) {
        let now = self.clock.now();
        let mut entry = Entry::new(Some(Arc::new(value)), now, Versions::new().now());
        if let Some(useful_for) = useful_for {
            entry.useful_until = now.after(useful_for);
        }
        self.engine.insert(key, entry);
        self.meters.stored();
    }

    fn get(&self, key: u64) -> Option<u64> {
        self.engine
            .get(&key)
            .and_then(|mut entry| entry.value.take())
            .map(|value| *value)
    }

    fn entries(&self) -> u64 {
        let _ = self
            .engine
            .sweep(self.clock.now(), &|entry| entry.useful_until);
        self.meters.stats().entries
    }
}

const ENGINES: &[Engine] = &[
    Engine::Moka,
    #[cfg(feature = "quick_cache")]
    Engine::QuickCache,
];

fn each(test: impl Fn(Engine)) {
    let _section = crate::deferred::section();
    ENGINES.iter().for_each(|engine| test(*engine));
}

#[test]
fn what_is_inserted_is_there_until_it_is_removed_or_replaced() {
    each(|engine| {
        let held = held(engine, 100, None);
        assert!(held.get(1).is_none() && !held.engine.contains(&1));
        held.put(1, 10, None);
        held.put(2, 20, None);
        held.put(1, 11, None);
        assert_eq!((held.get(1), held.get(2)), (Some(11), Some(20)));
        assert_eq!(held.entries(), 2);
        held.engine.remove(&1);
        held.engine.remove(&1);
        assert!(held.get(1).is_none() && !held.engine.contains(&1));
        assert_eq!(held.entries(), 1);
        held.engine.clear();
        assert_eq!((held.get(2), held.entries()), (None, 0));
        assert_eq!(held.meters.stats().evictions, 0);
    });
}

#[test]
fn it_never_holds_more_than_its_capacity_and_counts_what_had_to_go() {
    each(|engine| {
        let held = held(engine, 50, None);
        for key in 0..1_000 {
            held.put(key, key, None);
            held.get(key / 2);
        }
        let entries = held.entries();
        assert!((1..=50).contains(&entries), "{engine:?}: {entries}");
        let there = (0..1_000).filter(|key| held.engine.contains(key)).count() as u64;
        assert_eq!(there, entries, "{engine:?}");
        assert_eq!(held.meters.stats().evictions, 1_000 - entries, "{engine:?}");
    });
}

#[test]
fn the_capacity_may_be_one_of_weights() {
    each(|engine| {
        let held = held(engine, 1_000, Some(Arc::new(|_, value| *value as u32)));
        for key in 0..200 {
            held.put(key, 100, None);
        }
        held.put(500, 5_000, None);
        assert!(
            (1..=10).contains(&held.entries()),
            "{engine:?}: {}",
            held.entries()
        );
        assert!(
            !held.engine.contains(&500),
            "{engine:?}: too heavy by itself"
        );
    });
}

#[test]
fn what_is_said_to_weigh_nothing_is_bounded_as_well() {
    each(|engine| {
        let held = held(engine, 100, Some(Arc::new(|_, _| 0)));
        for key in 0..1_000 {
            held.put(key, key, None);
        }
        assert!(held.entries() <= 100, "{engine:?}: {}", held.entries());
    });
}

#[tokio::test(start_paused = true)]
async fn a_sweep_reclaims_what_is_of_no_use_any_more() {
    for engine in ENGINES {
        let held = held(*engine, 100, None);
        held.put(1, 1, Some(Duration::from_secs(1)));
        held.put(2, 2, Some(Duration::from_secs(3)));
        held.put(3, 3, None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(held.entries(), 2, "{engine:?}");
        assert_eq!(held.meters.stats().evictions, 1, "{engine:?}");
    }
}
