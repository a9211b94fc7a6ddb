use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::meters::Meters;
use crate::store::Lifetime;

type Load = Ticket<u8, u32>;

fn table() -> Table<u8, u32> {
    let lifetime = Lifetime {
        ttl: None,
        jitter: 0.0,
    };
    let meters = Arc::new(Meters::new("test".into()));
    Table::new(Store::new(1_000, lifetime, meters))
}

/// Starts the load of a key that is neither there nor in flight.
fn lead(table: &Table<u8, u32>, key: u8) -> (Load, Waiter<u32>) {
    match table.enter(&key, || Some(())) {
        Entered::Leads(ticket, waiter, ()) => (ticket, waiter),
        _ => panic!("{key} is there or in flight"),
    }
}

fn join(table: &Table<u8, u32>, key: u8) -> Waiter<u32> {
    match table.enter(&key, || -> Option<()> { panic!("{key} is not in flight") }) {
        Entered::Joined(waiter) => waiter,
        _ => panic!("{key} is not in flight"),
    }
}

fn end(table: &Table<u8, u32>, ticket: Load, value: u32) -> Finished {
    finish(table, ticket, Ok(Arc::new(value)))
}

fn finish(table: &Table<u8, u32>, ticket: Load, outcome: Outcome<u32>) -> Finished {
    let finished = table.finish(&ticket, &outcome);
    ticket.tell(outcome);
    finished
}

fn get(table: &Table<u8, u32>, key: u8) -> Option<u32> {
    table.get(&key).map(|value| *value)
}

#[tokio::test]
async fn a_load_serves_all_who_ask_and_is_kept() {
    let table = table();
    let (ticket, first) = lead(&table, 1);
    let second = join(&table, 1);
    let finished = end(&table, ticket, 10);
    assert!(finished.listed && finished.heard);
    assert_eq!(*first.outcome().await.unwrap(), 10);
    assert_eq!(*second.outcome().await.unwrap(), 10);
    assert_eq!(get(&table, 1), Some(10));
}

#[tokio::test]
async fn an_invalidated_load_serves_those_who_came_before_and_nobody_after() {
    for invalidate in [
        |table: &Table<u8, u32>| table.invalidate(&1),
        |table: &Table<u8, u32>| table.invalidate_all(),
    ] {
        let table = table();
        let (old, before) = lead(&table, 1);
        invalidate(&table);
        let (new, after) = lead(&table, 1);
        assert!(!end(&table, old, 10).listed);
        assert_eq!(*before.outcome().await.unwrap(), 10);
        assert_eq!(get(&table, 1), None);
        assert!(end(&table, new, 11).listed);
        assert_eq!(*after.outcome().await.unwrap(), 11);
        assert_eq!(get(&table, 1), Some(11));
    }
}

#[test]
fn an_old_load_that_ends_last_does_not_overwrite_the_new_one() {
    let table = table();
    let (old, _waiter) = lead(&table, 1);
    table.invalidate(&1);
    let (new, _waiter) = lead(&table, 1);
    end(&table, new, 11);
    end(&table, old, 10);
    assert_eq!(get(&table, 1), Some(11));
}

#[test]
fn a_load_does_not_overwrite_what_was_inserted_while_it_ran() {
    let table = table();
    let (old, _waiter) = lead(&table, 1);
    table.insert(1, Arc::new(20));
    assert!(!end(&table, old, 10).listed);
    assert_eq!(get(&table, 1), Some(20));
}

#[test]
fn a_load_that_ends_in_the_middle_of_an_invalidation_of_all_is_not_seen_after_it() {
    let table = table();
    let (old, _waiter) = lead(&table, 1);
    // The first step of `invalidate_all`; the load ends before the second.
    table.store.next_epoch();
    assert!(end(&table, old, 10).listed);
    assert_eq!(get(&table, 1), None);
}

#[test]
fn an_invalidation_of_all_hides_what_began_before_it_whatever_the_engine_thinks() {
    let table = table();
    let before = table.store.epoch();
    table.invalidate_all();
    // To the engine this is a new entry.
    table.store.put(1, Arc::new(10), before);
    assert_eq!(get(&table, 1), None);
}

#[test]
fn a_failed_load_keeps_what_is_there_and_lets_the_next_one_start() {
    let table = table();
    let (ticket, waiter) = lead(&table, 1);
    drop(waiter);
    let finished = finish(&table, ticket, Err(LoadError::Closed));
    assert!(finished.listed && !finished.heard);
    assert_eq!(get(&table, 1), None);
    let (_ticket, _waiter) = lead(&table, 1);
}

#[test]
fn without_a_permit_nothing_is_in_flight() {
    let table = table();
    assert!(matches!(table.enter(&1, || None::<()>), Entered::NoPermit));
    let (_ticket, _waiter) = lead(&table, 1);
}

#[tokio::test]
async fn those_who_wait_for_a_load_that_vanishes_are_told() {
    let table = table();
    let (ticket, waiter) = lead(&table, 1);
    drop(ticket);
    assert!(matches!(waiter.outcome().await, Err(LoadError::Closed)));
}

#[derive(Debug, Clone)]
enum Op {
    Ask(u8),
    /// Ends one of the loads in flight, or of those that were superseded.
    End(prop::sample::Index),
    Fail(prop::sample::Index),
    Insert(u8),
    Invalidate(u8),
    InvalidateAll,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..4_u8;
    prop_oneof![
        4 => key.clone().prop_map(Op::Ask),
        4 => any::<prop::sample::Index>().prop_map(Op::End),
        1 => any::<prop::sample::Index>().prop_map(Op::Fail),
        1 => key.clone().prop_map(Op::Insert),
        2 => key.prop_map(Op::Invalidate),
        1 => Just(Op::InvalidateAll),
    ]
}

proptest! {
    /// Against a model that says of each load, when it ends, whether it may still be kept.
    #[test]
    fn every_interleaving_of_loads_and_invalidations_keeps_the_model(
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let table = table();
        let mut running: Vec<(Load, bool)> = Vec::new();
        let mut kept: [Option<u32>; 4] = [None; 4];
        let mut value = 0;
        for op in ops {
            value += 1;
            match op {
                Op::Ask(key) => {
                    let in_flight = running.iter().any(|(t, valid)| t.key == key && *valid);
                    match table.enter(&key, || Some(())) {
                        Entered::Found(found) => {
                            prop_assert_eq!(Some(*found), kept[usize::from(key)]);
                        }
                        Entered::Joined(_) => prop_assert!(in_flight),
                        Entered::Leads(ticket, _, ()) => {
                            prop_assert!(!in_flight && kept[usize::from(key)].is_none());
                            running.push((ticket, true));
                        }
                        Entered::NoPermit => prop_assert!(false, "there is always a permit"),
                    }
                }
                Op::End(_) | Op::Fail(_) if running.is_empty() => {}
                Op::End(index) => {
                    let (ticket, valid) = running.swap_remove(index.index(running.len()));
                    let key = usize::from(ticket.key);
                    prop_assert_eq!(end(&table, ticket, value).listed, valid);
                    if valid {
                        kept[key] = Some(value);
                    }
                }
                Op::Fail(index) => {
                    let (ticket, valid) = running.swap_remove(index.index(running.len()));
                    let finished = finish(&table, ticket, Err(LoadError::Closed));
                    prop_assert_eq!(finished.listed, valid);
                }
                Op::Insert(key) => {
                    table.insert(key, Arc::new(value));
                    kept[usize::from(key)] = Some(value);
                    supersede(&mut running, |k| k == key);
                }
                Op::Invalidate(key) => {
                    table.invalidate(&key);
                    kept[usize::from(key)] = None;
                    supersede(&mut running, |k| k == key);
                }
                Op::InvalidateAll => {
                    table.invalidate_all();
                    kept = [None; 4];
                    supersede(&mut running, |_| true);
                }
            }
            for key in 0..4 {
                prop_assert_eq!(get(&table, key), kept[usize::from(key)]);
            }
        }
    }
}

fn supersede(running: &mut [(Load, bool)], which: impl Fn(u8) -> bool) {
    for (ticket, valid) in running {
        *valid &= !which(ticket.key);
    }
}
