use super::*;
use crate::backend::{Errors, Hold};

const LEASE: Duration = Duration::from_secs(30);

fn job(number: u64, now: Instant) -> Waiting<u64> {
    leased(number, number, now)
}

fn leased(number: u64, token: u64, now: Instant) -> Waiting<u64> {
    let lease = Lease {
        id: JobId::new(0, number),
        token,
    };
    let hold = Hold::Lease { token, since: now };
    Waiting {
        taken: Taken {
            job: number,
            id: lease.id,
            trace: None,
            errors: Errors::default(),
            hold,
        },
        lease,
        key: vec![(number % 2) as u8],
        attempt: 1,
        slot: now,
        until: now + LEASE,
        limited: false,
        enqueued_before: Duration::ZERO,
        due_before: Duration::ZERO,
        received: now,
    }
}

fn started(buffer: &mut Buffer<u64>, now: Instant) -> Option<u64> {
    buffer.start(now).map(|job| job.taken.job)
}

#[test]
fn a_job_whose_lease_may_be_over_does_not_start_and_is_given_back() {
    let now = Instant::now();
    let mut buffer = Buffer::new();
    buffer.add(job(1, now), 0);
    buffer.add(job(2, now), 0);
    assert_eq!(started(&mut buffer, now), Some(1));
    // The process stood still.
    assert_eq!(started(&mut buffer, now + LEASE), None);
    let ended = buffer.take_ended(9);
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].lease.token, &ended[0].how), (2, &How::Released));
    assert_eq!(buffer.running(), 1, "what runs is its handler's");
}

#[test]
fn a_lease_that_was_prolonged_is_one_to_start_by() {
    let now = Instant::now();
    let mut buffer = Buffer::new();
    buffer.add(job(1, now), 0);
    let (leases, came) = buffer.leases();
    assert_eq!(leases.len(), 1);
    // One that came while the server was asked is not among them.
    buffer.add(job(2, now), 0);
    buffer.prolong(came, now + 2 * LEASE);
    assert_eq!(started(&mut buffer, now + LEASE), Some(1));
    assert_eq!(started(&mut buffer, now + LEASE), None);
}

/// What was given back since the last call.
fn given_back(buffer: &mut Buffer<u64>) -> Vec<u64> {
    let ended = buffer.take_ended(99).into_iter();
    let back = ended.filter(|it| it.how == How::Released);
    back.map(|it| it.lease.token).collect()
}

fn penalty_by(buffer: &mut Buffer<u64>, job: Waiting<u64>, scope: Scope) {
    let how = How::Snooze {
        after: LEASE,
        penalty: Some(scope),
    };
    buffer.end(job.lease, how);
}

#[test]
fn what_a_penalty_stops_does_not_start_here_either() {
    let now = Instant::now();
    for (scope, stopped, goes_on) in [
        (Scope::Key, vec![3, 5], vec![2, 4]),
        (Scope::Queue, vec![2, 3, 4, 5], vec![]),
    ] {
        let mut buffer = Buffer::new();
        for number in 1..6 {
            buffer.add(job(number, now), 0);
        }
        let first = buffer.start(now).unwrap();
        penalty_by(&mut buffer, first, scope);
        assert_eq!(given_back(&mut buffer), stopped);
        let mut runs = Vec::new();
        while let Some(job) = started(&mut buffer, now) {
            runs.push(job);
        }
        assert_eq!(runs, goes_on);
    }
}

#[test]
fn an_exchange_that_was_under_way_brings_nothing_that_was_recalled() {
    let now = Instant::now();
    let mut buffer = Buffer::new();
    buffer.add(job(1, now), 0);
    let asked = buffer.recalls();
    let first = buffer.start(now).unwrap();
    penalty_by(&mut buffer, first, Scope::Key);
    assert!(buffer.has_penalty());
    buffer.take_ended(99);
    buffer.told(asked);
    buffer.add(job(2, now), asked);
    buffer.add(job(3, now), asked);
    assert_eq!(given_back(&mut buffer), [3]);
    // The next one tells the server.
    let asked = buffer.recalls();
    buffer.told(asked);
    buffer.add(job(5, now), asked);
    assert_eq!(given_back(&mut buffer), [0; 0]);
    assert_eq!(started(&mut buffer, now), Some(2));
    assert_eq!(started(&mut buffer, now), Some(5));
}

#[test]
fn a_job_that_is_leased_here_twice_keeps_the_newer_lease_when_the_older_ends() {
    let now = Instant::now();
    let mut buffer = Buffer::new();
    buffer.add(leased(1, 1, now), 0);
    let old = buffer.start(now).unwrap();
    buffer.add(leased(1, 2, now), 0);
    let new = buffer.start(now).unwrap();
    buffer.end(old.lease, How::Done);
    assert_eq!(buffer.leases().0, [new.lease]);
    buffer.end(new.lease, How::Done);
    assert_eq!(buffer.running(), 0);
}

#[test]
fn the_loss_of_a_lease_does_not_take_a_newer_one_of_the_same_job_along() {
    let now = Instant::now();
    let mut buffer = Buffer::new();
    buffer.add(leased(1, 1, now), 0);
    let old = buffer.start(now).unwrap();
    buffer.add(leased(1, 2, now), 0);
    let (leases, _) = buffer.leases();
    buffer.lose(&leases, &[old.lease.id]);
    assert_eq!(started(&mut buffer, now), Some(1));
    buffer.add(leased(1, 3, now), 0);
    let (leases, _) = buffer.leases();
    buffer.lose(&leases, &[old.lease.id; 3]);
    assert_eq!(started(&mut buffer, now), None, "all were lost");
}

#[test]
fn a_job_that_finds_no_worker_is_given_back_after_a_while() {
    let now = Instant::now();
    let mut buffer = Buffer::new();
    buffer.add(job(1, now), 0);
    buffer.add(job(2, now + HELD), 0);
    assert!(!buffer.release_stale(now + HELD / 2));
    assert_eq!(buffer.stale_at(), Some(now + HELD));
    assert!(buffer.release_stale(now + HELD));
    assert_eq!(given_back(&mut buffer), [1]);
    assert_eq!(started(&mut buffer, now + HELD), Some(2));
}

/// A job whose `Drop` panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped");
    }
}

fn bomb(number: u64, now: Instant) -> Waiting<Bomb> {
    let job = job(number, now);
    let Taken { id, hold, .. } = job.taken;
    Waiting {
        taken: Taken {
            job: Bomb,
            id,
            trace: None,
            errors: Errors::default(),
            hold,
        },
        lease: job.lease,
        key: job.key,
        attempt: 1,
        slot: now,
        until: job.until,
        limited: false,
        enqueued_before: Duration::ZERO,
        due_before: Duration::ZERO,
        received: now,
    }
}

/// Those after it were kept, though they were recalled or lost.
#[test]
fn jobs_whose_drop_panics_are_let_go_all_the_same() {
    let now = Instant::now();
    let ways: [fn(&mut Buffer<Bomb>, Instant); 5] = [
        |buffer, _| buffer.recall_all(),
        |buffer, _| buffer.release(),
        |buffer, now| assert!(buffer.release_stale(now + HELD)),
        |buffer, now| assert!(buffer.start(now + LEASE).is_none()),
        |buffer, _| {
            let (leases, _) = buffer.leases();
            let lost: Vec<_> = leases.iter().map(|lease| lease.id).collect();
            buffer.lose(&leases, &lost);
        },
    ];
    for (way, told) in ways.into_iter().zip([3, 3, 3, 3, 0]) {
        let mut buffer = Buffer::new();
        (0..3).for_each(|number| buffer.add(bomb(number, now), 0));
        way(&mut buffer, now);
        assert_eq!(buffer.ended(), told);
        assert!(buffer.next_at().is_none());
    }
}
