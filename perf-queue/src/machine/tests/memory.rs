use std::sync::Arc;

use super::*;

/// What is allocated for `machine`, beside the payloads.
fn bytes<T, K: Hash + Eq + Clone>(machine: &Machine<T, K>) -> usize {
    // A table of the standard library has 8 buckets for 7 entries, and a byte of control for each.
    let buckets = machine.names.capacity() * 8 / 7;
    let payloads = machine.jobs.len() * size_of::<T>();
    machine.jobs.bytes() - payloads
        + machine.keys.capacity() * size_of::<Key<K>>()
        + buckets * (size_of::<(K, u32)>() + 1)
        + machine.ring.capacity() * size_of::<u32>()
        + machine.timers.bytes()
        + machine.fades.bytes()
}

fn bytes_a_job(jobs: u64, keys: u64, rules: Rules) -> usize {
    let mut machine = Machine::new(rules);
    let later = Time::NEVER;
    for seq in 0..jobs {
        // One in ten is for later.
        let due = if seq % 10 == 0 { later } else { at(0) };
        machine.push(NewJob::new(seq, seq % keys, [0_u64; 8], at(0), due), at(0));
    }
    bytes(&machine) / usize::try_from(jobs).unwrap()
}

#[test]
fn a_million_jobs_of_one_key_and_of_a_million_keys_take_at_most_300_bytes_each() {
    for keys in [1, 1_000_000] {
        let each = bytes_a_job(1_000_000, keys, Rules::default());
        assert!(each <= 300, "{each} bytes a job of {keys} keys");
    }
}

#[test]
fn a_million_keys_that_wait_for_their_limit_take_at_most_300_bytes_a_job() {
    let rules = Rules {
        key: Some(paced(1, 60_000)),
        ..Rules::default()
    };
    let mut machine = Machine::new(rules);
    for seq in 0..1_000_000 {
        push(&mut machine, seq, seq, at(0));
        let job = machine.claim(at(0)).unwrap();
        machine.finish(job.ticket, at(0));
        push(&mut machine, seq, seq, at(0));
    }
    assert_eq!(machine.depth(at(0)).limited, 1_000_000);
    let each = bytes(&machine) / 1_000_000;
    assert!(each <= 300, "{each} bytes a job");
}

#[test]
fn no_number_of_jobs_is_a_bad_one_for_memory() {
    for jobs in [10_000, 20_500, 60_000, 70_000, 115_000, 132_000] {
        let each = bytes_a_job(jobs, jobs, Rules::default());
        assert!(each <= 300, "{each} bytes a job of {jobs}");
    }
}

#[test]
fn a_batch_of_which_little_is_left_gives_its_memory_back() {
    let mut machine = Machine::new(Rules::default());
    let held = Arc::new(());
    let whole = Arc::clone(&held);
    let payloads = (0..1_000).inspect(move |_| {
        let _ = &whole;
    });
    let batch = Batch {
        seq: 0,
        count: 1_000,
        key: 0_u64,
        payloads: Box::new(payloads),
    };
    machine.push_batch(batch, at(0));
    let claim = |machine: &mut Machine<u64, u64>| {
        let job = machine.claim(at(0))?;
        assert_eq!(job.payload, job.ticket.seq);
        Some(job.payload)
    };
    for seq in 0..750 {
        machine.tidy(at(0));
        assert_eq!(Arc::strong_count(&held), 2);
        assert_eq!(claim(&mut machine), Some(seq));
    }
    machine.tidy(at(0));
    assert_eq!(Arc::strong_count(&held), 1);
    for seq in 750..1_000 {
        assert_eq!(claim(&mut machine), Some(seq));
    }
    assert_eq!(claim(&mut machine), None);
}
