use std::hash::Hash;

use super::*;

#[test]
fn a_key_with_many_jobs_does_not_delay_a_key_with_one() {
    let mut machine = Machine::new(Rules::default());
    for seq in 0..10_000 {
        machine.push(
            NewJob::new(seq, "hot", "hot", Time::ZERO, Time::ZERO),
            Time::ZERO,
        );
    }
    machine.push(
        NewJob::new(10_000, "cold", "cold", Time::ZERO, Time::ZERO),
        Time::ZERO,
    );
    let first: Vec<&str> = (0..2)
        .filter_map(|_| machine.claim(Time::ZERO).map(|job| job.payload))
        .collect();
    assert_eq!(first, ["hot", "cold"]);
}

#[test]
fn a_key_that_waits_for_its_limit_delays_no_other_key() {
    let rules = Rules {
        key: Some(Pace::new(1, 1_000_000_000, 1)),
        ..Rules::default()
    };
    let mut machine = Machine::new(rules);
    for (seq, key) in [(0, 1), (1, 1), (2, 1), (3, 2)] {
        push(&mut machine, seq, key, Time::ZERO);
    }
    let mut take = |at| machine.claim(Time::at(ms(at))).map(|job| job.payload);
    assert_eq!(take(0), Some(0));
    assert_eq!(take(0), Some(3));
    assert_eq!((take(0), take(999)), (None, None));
    assert_eq!((take(1_000), take(1_000)), (Some(1), None));
    assert_eq!(machine.next_at(), Some(Time::at(ms(2_000))));
    assert_eq!(machine.depth(Time::at(ms(1_000))).limited, 1);
    let limited = machine.take_limited();
    assert_eq!((limited.by_queue, limited.by_key), (0, 2));
}

#[test]
fn many_jobs_due_in_the_same_instant_are_all_handed_out() {
    let mut machine = Machine::new(Rules::default());
    let due = Time::at(ms(500));
    for seq in 0..50_000 {
        machine.push(
            NewJob::new(seq, seq % 100, seq, Time::ZERO, due),
            Time::ZERO,
        );
    }
    assert_eq!(machine.depth(Time::ZERO).scheduled, 50_000);
    assert_eq!(machine.next_at(), Some(due));
    assert!(machine.claim(Time::at(ms(499))).is_none());
    let claimed = std::iter::from_fn(|| machine.claim(due)).count();
    assert_eq!(claimed, 50_000);
}

#[test]
fn a_shorter_penalty_does_not_end_a_longer_one() {
    let mut machine = Machine::new(Rules::default());
    for seq in 0..3 {
        push(&mut machine, seq, (), Time::ZERO);
    }
    let jobs: Vec<_> = (0..2).filter_map(|_| machine.claim(Time::ZERO)).collect();
    let waits = [ms(100), ms(20)];
    for (job, wait) in jobs.into_iter().zip(waits) {
        machine.put_back(job, 1, Return::Penalty(Scope::Queue, wait), Time::ZERO);
    }
    assert_eq!(machine.next_at(), Some(Time::at(ms(100))));
    assert!(machine.claim(Time::at(ms(99))).is_none());
    assert!(machine.claim(Time::at(ms(100))).is_some());
}

#[test]
fn a_key_that_cannot_be_hashed_for_a_while_is_not_half_forgotten() {
    use std::cell::Cell;
    thread_local!(static BROKEN: Cell<bool> = const { Cell::new(false) });
    #[derive(Clone, PartialEq, Eq)]
    struct Name;
    impl Hash for Name {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {
            assert!(!BROKEN.get(), "no hash");
        }
    }
    let mut machine = Machine::new(Rules::default());
    push(&mut machine, 0, Name, Time::ZERO);
    let job = machine.claim(Time::ZERO).unwrap();
    BROKEN.set(true);
    machine.finish(job.ticket, Time::ZERO);
    assert!(machine.is_empty());
    let minutes = |n: u64| Time::at(Duration::from_secs(60 * n));
    machine.tidy(minutes(1));
    assert_eq!((machine.keys.len(), machine.names.len()), (1, 1));
    BROKEN.set(false);
    push(&mut machine, 1, Name, Time::ZERO);
    let job = machine.claim(minutes(1)).unwrap();
    machine.finish(job.ticket, minutes(1));
    assert_eq!((machine.keys.len(), machine.names.len()), (1, 1));
    // Dropped when it was to be looked at again, as what was then in the way is gone.
    machine.tidy(minutes(2));
    assert_eq!((machine.keys.len(), machine.names.len()), (0, 0));
}

#[test]
fn a_job_known_from_before_the_start_keeps_its_times_its_attempt_and_its_priority() {
    let mut machine = Machine::new(Rules::default());
    let job = NewJob {
        attempt: 7,
        priority: -3,
        ..NewJob::new(
            1,
            "key",
            (),
            Time::ZERO.before(ms(5_000)),
            Time::ZERO.before(ms(2_000)),
        )
    };
    machine.push(job, at(100));
    let oldest = machine.depth(at(100)).oldest_due.unwrap();
    assert_eq!(at(100).since(oldest), ms(2_100));
    let ticket = machine.claim(at(100)).unwrap().ticket;
    assert_eq!((ticket.attempt, ticket.priority), (7, -3));
    assert_eq!(at(100).since(ticket.enqueued), ms(5_100));
    assert_eq!(at(100).since(ticket.due), ms(2_100));
}

#[test]
fn while_paused_no_job_starts_and_jobs_fall_due() {
    let mut machine = Machine::new(Rules::default());
    push(&mut machine, 0, "a", at(0));
    machine.push(NewJob::new(1, "b", 1, at(0), at(50)), at(0));
    machine.pause();
    assert!(machine.claim(at(10)).is_none());
    assert_eq!(machine.next_at(), None);
    assert!(machine.claim(at(60)).is_none());
    let depth = machine.depth(at(60));
    assert_eq!((depth.ready, depth.scheduled), (2, 0));
    assert_eq!(machine.take_limited(), Limited::default());
    assert!(machine.is_paused());
    machine.resume();
    assert!(machine.next_at().is_some_and(|next| next <= at(60)));
    assert_eq!(work(&mut machine, at(60)), [0, 1]);
}

#[test]
fn a_key_with_a_limit_of_its_own_goes_by_it() {
    let rules = Rules {
        key: Some(at_once(1, 1_000)),
        ..Rules::default()
    };
    let mut machine = Machine::new(rules);
    for seq in 0..10 {
        push(&mut machine, seq, "user", at(0));
        let group = NewJob {
            pace: Some(at_once(3, 1_000)),
            ..NewJob::new(10 + seq, "group", 10 + seq, at(0), at(0))
        };
        machine.push(group, at(0));
    }
    assert_eq!(work(&mut machine, at(0)), [0, 10, 11, 12]);
    assert_eq!(work(&mut machine, at(1_000)), [1, 13, 14, 15]);
}
