use proptest::prelude::*;

use super::*;
use crate::engine::{Engine, Setup};
use crate::meters::Meters;
use crate::policy::RefreshAhead;
use crate::remote::{Local, Target};

const POLICY: Policy = Policy {
    time_to_live: None,
    jitter: 0.0,
    time_to_idle: None,
    stale_while_revalidate: Duration::ZERO,
    stale_if_error: Duration::ZERO,
    refresh_ahead: RefreshAhead::Never,
    negative_ttl: Duration::ZERO,
    retry_failed_after: Duration::ZERO,
};

const ENGINES: &[Engine] = &[
    Engine::Moka,
    #[cfg(feature = "quick_cache")]
    Engine::QuickCache,
];

fn table_of(engine: Engine, policy: Policy, untrusted_age: Option<Duration>) -> Table<u8, u32> {
    table_with(Clock::start(), engine, policy, untrusted_age)
}

fn table_with(
    clock: Clock,
    engine: Engine,
    policy: Policy,
    untrusted_age: Option<Duration>,
) -> Table<u8, u32> {
    let meters = Arc::new(Meters::new("test".into(), None));
    let setup = Setup {
        capacity: 1_000,
        weigher: None,
        meters: Arc::clone(&meters),
    };
    let engine = Engines::new(engine, setup);
    Table::new(engine, true, policy, clock, untrusted_age, meters)
}

fn table() -> Table<u8, u32> {
    table_of(Engine::Moka, POLICY, None)
}

/// Starts the load of a key that is neither there nor in flight.
fn lead(table: &Table<u8, u32>, key: u8) -> Ticket<u8> {
    match table.ask(&key) {
        Asked::Leads(ticket, ..) => ticket,
        Asked::Found(_) | Asked::Joined(..) => panic!("{key} is there or in flight"),
    }
}

fn kept(table: &Table<u8, u32>, value: u32, tags: &[u8]) -> Kept<u32> {
    let names: Vec<Arc<str>> = tags.iter().map(|tag| tag.to_string().into()).collect();
    Kept {
        value: Arc::new(value),
        tags: table.tags(&names),
        etag: None,
        times: Times::default(),
        began: table.now(),
    }
}

fn end(table: &Table<u8, u32>, ticket: &Ticket<u8>, value: u32) -> bool {
    table.keep(ticket, kept(table, value, &[]))
}

fn get(table: &Table<u8, u32>, key: u8) -> Option<u32> {
    match table.get(&key) {
        State::Fresh(value) => Some(*value),
        _ => None,
    }
}

/// In builds other than tests, tokio's clock cannot be paused, and a cheaper one decides most hits.
fn unpausable(ttl: Duration, untrusted_age: Option<Duration>) -> Table<u8, u32> {
    let policy = Policy {
        time_to_live: Some(ttl),
        ..POLICY
    };
    let clock = Clock::start_unpausable();
    table_with(clock, Engine::Moka, policy, untrusted_age)
}

#[test]
fn by_the_cheap_clock_what_was_invalidated_is_not_served() {
    let table = unpausable(Duration::from_secs(3_600), None);
    for key in 0..3 {
        let ticket = lead(&table, key);
        let tags: &[u8] = if key == 1 { &[7] } else { &[] };
        assert!(table.keep(&ticket, kept(&table, 10, tags)));
        assert_eq!(get(&table, key), Some(10));
    }
    table.invalidate(&0);
    table.invalidate_tag("7");
    assert_eq!((get(&table, 0), get(&table, 1)), (None, None));
    assert_eq!(get(&table, 2), Some(10));
    table.invalidate_all();
    assert_eq!(get(&table, 2), None);
}

#[test]
fn by_the_cheap_clock_nothing_is_served_beyond_its_time_to_live_or_its_trust() {
    let (long, short) = (Duration::from_secs(3_600), Duration::from_millis(20));
    for table in [unpausable(short, None), unpausable(long, Some(short))] {
        assert!(end(&table, &lead(&table, 1), 10));
        let over = table.now().after(short);
        while table.now() < over {
            std::hint::spin_loop();
        }
        assert_eq!(get(&table, 1), None);
    }
}

#[test]
fn an_old_load_that_ends_last_does_not_overwrite_the_new_one() {
    let table = table();
    let old = lead(&table, 1);
    table.invalidate(&1);
    let new = lead(&table, 1);
    assert!(end(&table, &new, 11));
    assert!(!end(&table, &old, 10));
    assert_eq!(get(&table, 1), Some(11));
}

#[test]
fn nobody_joins_a_load_from_before_an_invalidation_of_all_and_its_value_is_hidden() {
    let table = table();
    let old = lead(&table, 1);
    table.invalidate_all();
    let new = lead(&table, 1);
    assert!(!end(&table, &old, 10));
    assert!(end(&table, &new, 11));
    let old = lead(&table, 2);
    table.invalidate_all();
    // It is still listed: nobody has asked since.
    assert!(end(&table, &old, 20));
    assert_eq!((get(&table, 1), get(&table, 2)), (None, None));
}

#[test]
fn a_load_that_nobody_waits_for_can_be_abandoned_and_one_that_is_joined_cannot() {
    let table = table();
    let Asked::Leads(ticket, flight, waiter) = table.ask(&1) else {
        panic!("it is not there");
    };
    let is_abandoned = || table.abandon(&ticket, &flight).unwrap();
    assert!(!is_abandoned());
    drop(waiter);
    let Asked::Joined(joined, _) = table.ask(&1) else {
        panic!("it is in flight");
    };
    assert!(!is_abandoned());
    drop(joined);
    // Nor is it ever anything else again.
    assert!(is_abandoned() && is_abandoned());
    assert_eq!(table.flights.len(), 0);
    lead(&table, 1);
}

#[test]
fn a_refresh_is_not_started_beside_a_load_nor_right_after_one() {
    let table = table();
    let ticket = lead(&table, 1);
    assert!(table.ask_behind(&1).is_none());
    end(&table, &ticket, 1);
    assert!(table.ask_behind(&1).is_none());
}

#[tokio::test(start_paused = true)]
async fn without_trust_an_entry_is_served_only_while_it_is_young() {
    let age = Duration::from_secs(2);
    let table = table_of(Engine::Moka, POLICY, Some(age));
    let ticket = lead(&table, 1);
    end(&table, &ticket, 1);
    tokio::time::advance(age / 2).await;
    assert_eq!(get(&table, 1), Some(1));
    tokio::time::advance(age / 2).await;
    assert_eq!(get(&table, 1), None);
    let until = tokio::time::Instant::now() + age;
    table.trusted_until(until);
    assert_eq!(get(&table, 1), Some(1), "nothing was missed");
    tokio::time::advance(age).await;
    assert_eq!(get(&table, 1), None);
    table.trusted_until(until + age * 2);
    table.gap();
    assert_eq!(get(&table, 1), None, "something may have been missed");
}

#[tokio::test(start_paused = true)]
async fn without_trust_an_entry_is_still_there_for_loads_that_fail() {
    let age = Duration::from_secs(2);
    let policy = Policy {
        stale_if_error: age * 10,
        ..POLICY
    };
    let table = table_of(Engine::Moka, policy, Some(age));
    let ticket = lead(&table, 1);
    end(&table, &ticket, 1);
    tokio::time::advance(age).await;
    assert!(matches!(table.get(&1), State::Fallback(_)));
}

#[tokio::test(start_paused = true)]
async fn without_trust_nobody_joins_a_load_that_is_no_longer_young() {
    let age = Duration::from_secs(2);
    let table = table_of(Engine::Moka, POLICY, Some(age));
    let old = lead(&table, 1);
    tokio::time::advance(age - Duration::from_millis(1)).await;
    assert!(matches!(table.ask(&1), Asked::Joined(..)));
    tokio::time::advance(Duration::from_millis(1)).await;
    let new = lead(&table, 1);
    assert!(!end(&table, &old, 1) && end(&table, &new, 2));
    let old = lead(&table, 2);
    tokio::time::advance(age).await;
    table.trusted_until(tokio::time::Instant::now() + age);
    assert!(
        matches!(table.ask(&2), Asked::Joined(..)),
        "nothing was missed"
    );
    assert!(end(&table, &old, 3));
}

#[test]
fn an_insertion_that_is_overtaken_is_not_kept() {
    let table = table();
    let (first, _) = table.begin_insert(&1, table.now());
    table.invalidated(Target::Key(&1));
    assert!(!end(&table, &first, 1));
    let (first, _) = table.begin_insert(&1, table.now());
    let (second, _) = table.begin_insert(&1, table.now());
    assert!(end(&table, &second, 2) && !end(&table, &first, 1));
    assert_eq!(get(&table, 1), Some(2));
    let load = lead(&table, 2);
    let (inserted, _) = table.begin_insert(&2, table.now());
    assert!(!end(&table, &load, 3) && end(&table, &inserted, 4));
}

#[derive(Debug, Clone)]
enum Op {
    Ask(u8),
    /// Ends one of the loads in flight, or of those that were superseded, with this tag.
    End(prop::sample::Index, u8),
    Fail(prop::sample::Index),
    Insert(u8, u8),
    Invalidate(u8),
    InvalidateTag(u8),
    InvalidateAll,
}

fn op() -> impl Strategy<Value = Op> {
    let (key, tag) = (0..4_u8, 0..3_u8);
    let load = any::<prop::sample::Index>();
    prop_oneof![
        4 => key.clone().prop_map(Op::Ask),
        4 => (load.clone(), tag.clone()).prop_map(|(load, tag)| Op::End(load, tag)),
        1 => load.prop_map(Op::Fail),
        1 => (key.clone(), tag.clone()).prop_map(|(key, tag)| Op::Insert(key, tag)),
        2 => key.prop_map(Op::Invalidate),
        2 => tag.prop_map(Op::InvalidateTag),
        1 => Just(Op::InvalidateAll),
    ]
}

/// A load, and what the model says of it.
struct Running {
    ticket: Ticket<u8>,
    superseded: bool,
    /// Tags that were invalidated since it began.
    old_tags: Vec<u8>,
}

proptest! {
    /// Against a model that says of each load, when it ends, whether its value may be seen.
    #[test]
    fn every_interleaving_of_loads_and_invalidations_keeps_the_model(
        ops in prop::collection::vec(op(), 1..80),
        engine in prop::sample::select(ENGINES),
    ) {
        let table = table_of(engine, POLICY, None);
        let mut running: Vec<Running> = Vec::new();
        let mut model: [Option<(u32, u8)>; 4] = [None; 4];
        for (value, op) in (0_u32..).zip(ops) {
            match op {
                Op::Ask(key) => {
                    let there = model[usize::from(key)];
                    let in_flight = running.iter().any(|r| r.ticket.key == key && !r.superseded);
                    match table.ask(&key) {
                        Asked::Found(found) => {
                            prop_assert_eq!(found.ok().map(|v| *v), there.map(|(v, _)| v));
                        }
                        Asked::Joined(..) => prop_assert!(in_flight),
                        Asked::Leads(ticket, ..) => {
                            prop_assert!(!in_flight && there.is_none());
                            // One that was superseded by its stamp alone is off the list now.
                            running.push(Running { ticket, superseded: false, old_tags: vec![] });
                        }
                    }
                }
                Op::End(..) | Op::Fail(_) if running.is_empty() => {}
                Op::End(index, tag) => {
                    let load = running.swap_remove(index.index(running.len()));
                    table.keep(&load.ticket, kept(&table, value, &[tag]));
                    if !load.superseded {
                        let seen = !load.old_tags.contains(&tag);
                        model[usize::from(load.ticket.key)] = seen.then_some((value, tag));
                    }
                }
                Op::Fail(index) => {
                    let load = running.swap_remove(index.index(running.len()));
                    table.keep_failure(&load.ticket, &LoadError::Closed);
                }
                Op::Insert(key, tag) => {
                    table.insert(key, kept(&table, value, &[tag]));
                    model[usize::from(key)] = Some((value, tag));
                    supersede(&mut running, |k| k == key);
                }
                Op::Invalidate(key) => {
                    table.invalidate(&key);
                    model[usize::from(key)] = None;
                    supersede(&mut running, |k| k == key);
                }
                Op::InvalidateTag(tag) => {
                    table.invalidate_tag(&tag.to_string());
                    for entry in &mut model {
                        *entry = entry.filter(|(_, t)| *t != tag);
                    }
                    for load in &mut running {
                        load.old_tags.push(tag);
                    }
                }
                Op::InvalidateAll => {
                    table.invalidate_all();
                    model = [None; 4];
                    supersede(&mut running, |_| true);
                }
            }
            for key in 0..4 {
                let there = model[usize::from(key)].map(|(value, _)| value);
                prop_assert_eq!(get(&table, key), there);
            }
        }
    }
}

fn supersede(running: &mut [Running], which: impl Fn(u8) -> bool) {
    for load in running {
        load.superseded |= which(load.ticket.key);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_is_due_only_when_an_entry_can_have_ended() {
    let second = Duration::from_secs(1);
    for engine in ENGINES {
        let table = table_of(*engine, POLICY, None);
        let fill = |ttl: Option<Duration>| {
            for n in 0..2_000 {
                let mut kept = kept(&table, n, &[]);
                kept.times.own = ttl;
                table.insert(n as u8, kept);
            }
        };
        fill(None);
        assert!(!table.is_sweep_due(), "nothing ever ends");
        fill(Some(2 * second));
        table.insert(1, kept(&table, 1, &[]));
        assert!(!table.is_sweep_due(), "not yet");
        tokio::time::advance(second).await;
        fill(Some(3 * second));
        assert!(!table.is_sweep_due(), "not yet");
        tokio::time::advance(second).await;
        assert!(!table.is_sweep_due(), "nothing was stored since");
        fill(Some(3 * second));
        assert!(table.is_sweep_due());
        // It finds that the next ends later.
        table.sweep();
        fill(None);
        tokio::time::advance(2 * second).await;
        fill(Some(9 * second));
        assert!(!table.is_sweep_due(), "the sweep saw that nothing ends yet");
        table.sweep();
        tokio::time::advance(9 * second).await;
        fill(None);
        assert!(table.is_sweep_due(), "what was stored last has ended");
    }
}
