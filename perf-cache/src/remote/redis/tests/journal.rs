//! What becomes of invalidations that cannot be told to Redis, apart from Redis.

use std::sync::Arc;

use super::support::*;
use crate::remote::redis::journal::{How, Journal, MOST, Order, Targets};

fn key(name: &str, how: How) -> Order {
    Order::Key {
        name: name.into(),
        how,
    }
}

fn gone(name: impl Into<Vec<u8>>) -> Order {
    Order::Key {
        name: name.into(),
        how: How::Gone,
    }
}

fn is_blocked(journal: &Journal, name: &str) -> bool {
    let name = name.as_bytes().to_vec();
    let (blocked, before) = journal.before(std::iter::once(&name));
    assert_eq!(blocked[0], journal.blocks(&name, &[], &before));
    blocked[0]
}

fn lengths(targets: &Targets) -> (usize, usize, bool) {
    (targets.keys.len(), targets.tags.len(), targets.all)
}

#[tokio::test]
async fn what_is_not_done_blocks_reads_and_is_sent_again() {
    let journal = Journal::default();
    let told = journal.add(gone("a")).unwrap();
    assert!(is_blocked(&journal, "a") && !is_blocked(&journal, "b"));
    assert_eq!(journal.send(lengths), Some((1, 0, false)));
    assert_eq!(journal.send(lengths), None);
    assert!(is_blocked(&journal, "a"));
    journal.defer();
    assert!(told.await.is_err());
    assert!(is_blocked(&journal, "a"));
    // What comes while it is sent again is not done by it: it may be done before that began.
    assert_eq!(journal.send(lengths), Some((1, 0, false)));
    let again = journal.add(gone("a")).unwrap();
    assert_eq!(journal.done(7), 1);
    assert!(is_blocked(&journal, "a"));
    assert_eq!(journal.send(lengths), Some((1, 0, false)));
    assert_eq!(journal.done(8), 1);
    assert_eq!(again.await, Ok(8));
    assert!(!is_blocked(&journal, "a"));
    assert_eq!(journal.send(lengths), None);
}

#[test]
fn a_tag_blocks_values_that_were_asked_for_before_it_was_done() {
    let journal = Journal::default();
    let tags: [Arc<str>; 1] = ["t".into()];
    let (_, unknowing) = journal.before(std::iter::empty());
    let _told = journal.add(Order::Tag("t".into())).unwrap();
    let (_, before) = journal.before(std::iter::empty());
    assert!(journal.blocks(b"a", &tags, &unknowing));
    assert!(!journal.blocks(b"a", &["u".into()], &before));
    journal.send(lengths);
    assert!(journal.blocks(b"a", &tags, &before));
    journal.done(1);
    // It may have been read before.
    assert!(journal.blocks(b"a", &tags, &before));
    let (_, after) = journal.before(std::iter::empty());
    assert!(!journal.blocks(b"a", &tags, &after));
}

#[test]
fn a_journal_that_is_full_becomes_an_invalidation_of_everything() {
    let journal = Journal::default();
    for number in 0..MOST {
        let _told = journal.add(gone(number.to_string())).unwrap();
    }
    // Again the same is no more.
    let _told = journal.add(gone("0")).unwrap();
    assert!(!is_blocked(&journal, "other"));
    let _told = journal.add(Order::Tag("t".into())).unwrap();
    assert!(is_blocked(&journal, "other"));
    assert_eq!(journal.send(lengths), Some((0, 0, true)));
    for number in 0..MOST {
        let _told = journal.add(gone(number.to_string())).unwrap();
    }
    journal.defer();
    assert_eq!(journal.send(lengths), Some((MOST, 0, true)));
    let _told = journal.add(gone("other")).unwrap();
    journal.defer();
    assert_eq!(journal.send(lengths), Some((0, 0, true)));
}

#[test]
fn of_two_orders_for_a_key_the_later_counts_and_the_stronger() {
    let (one, two) = (How::Replaced([1; 16]), How::Replaced([2; 16]));
    for (first, second, both) in [
        (How::Gone, How::Expired, How::Gone),
        (How::Expired, How::Gone, How::Gone),
        (How::Expired, How::Expired, How::Expired),
        (one, two, two),
        (one, How::Gone, How::Gone),
        (one, How::Expired, How::Gone),
        (How::Gone, one, one),
        (How::Expired, one, one),
    ] {
        let journal = Journal::default();
        let _told = journal.add(key("a", first)).unwrap();
        let _told = journal.add(key("a", second)).unwrap();
        let how = journal.send(|targets| targets.keys[&b"a"[..]]);
        assert_eq!(how, Some(both), "{first:?} {second:?}");
    }
}

#[test]
fn what_is_inserted_before_an_invalidation_at_the_same_sequence_is_not_put_there() {
    let insert = || key("a", How::Replaced([1; 16]));
    for order in [Order::All, Order::Tag("t".into())] {
        let journal = Journal::default();
        let _told = journal.add(insert()).unwrap();
        let _told = journal.add(order).unwrap();
        let how = |targets: &Targets| targets.keys[&b"a"[..]];
        assert_eq!(journal.send(how), Some(How::Gone));
        journal.done(1);
        // After it, it is.
        let _told = journal.add(Order::All).unwrap();
        let _told = journal.add(insert()).unwrap();
        assert_eq!(journal.send(how), Some(How::Replaced([1; 16])));
        // Nobody waits for what was deferred.
        journal.defer();
        assert_eq!(journal.send(how), Some(How::Gone));
    }
}

#[tokio::test]
async fn what_nobody_waits_for_is_sent_all_the_same() {
    let journal = Journal::default();
    drop(journal.add(gone("a")).unwrap());
    tokio::time::timeout(PATIENT, journal.added())
        .await
        .unwrap();
    assert_eq!(journal.send(lengths), Some((1, 0, false)));
    assert_eq!(journal.close(), 1);
    assert!(journal.add(gone("b")).is_err());
}

#[tokio::test]
async fn those_who_waited_for_a_server_that_is_down_do_not_add_up() {
    let journal = Journal::default();
    let waits = journal.add(gone("first")).unwrap();
    for _ in 0..100_000 {
        drop(journal.add(gone("a")).unwrap());
    }
    assert!(journal.waiters() <= 128, "{}", journal.waiters());
    let many: Vec<_> = (0..1_000).map(|_| journal.add(gone("a"))).collect();
    assert_eq!(journal.send(lengths), Some((2, 0, false)));
    journal.done(7);
    assert_eq!(waits.await, Ok(7));
    for told in many {
        assert_eq!(told.unwrap().await, Ok(7));
    }
}
