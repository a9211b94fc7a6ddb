use super::*;

fn job(seq: u64, priority: i8) -> NewJob<u64, &'static str> {
    NewJob {
        priority,
        ..NewJob::new(seq, "key", seq, at(0), at(0))
    }
}

fn one_by_one() -> Machine<u64, &'static str> {
    Machine::new(Rules {
        concurrency_per_key: Some(1),
        ..Rules::default()
    })
}

#[test]
fn within_a_key_the_highest_priority_goes_first_and_then_the_first_to_come() {
    let mut machine = Machine::new(Rules::default());
    let priorities = [0, 0, 5, -5, 5, 0, 127, -128, -5, 6, 5];
    for (seq, priority) in (0..).zip(priorities) {
        machine.push(job(seq, priority), at(0));
    }
    let order = [6, 9, 2, 4, 10, 0, 1, 5, 3, 8, 7];
    assert_eq!(work(&mut machine, at(0)), order);
}

#[test]
fn a_key_with_an_urgent_job_has_no_more_turns_than_others() {
    let mut machine = Machine::new(Rules::default());
    machine.push(job(0, 9), at(0));
    push(&mut machine, 1, "other", at(0));
    machine.push(job(2, 9), at(0));
    assert_eq!(work(&mut machine, at(0)), [0, 1, 2]);
}

#[test]
fn a_released_job_is_first_of_its_priority() {
    let mut machine = Machine::new(Rules::default());
    for (seq, priority) in [(0, 1), (1, 1), (2, 2), (3, 0)] {
        machine.push(job(seq, priority), at(0));
    }
    let urgent = machine.claim(at(0)).unwrap();
    let released = machine.claim(at(0)).unwrap();
    assert_eq!((urgent.payload, released.payload), (2, 0));
    machine.put_back(released, 1, Return::Now, at(0));
    machine.push(job(4, 2), at(0));
    assert_eq!(work(&mut machine, at(0)), [4, 0, 1, 3]);
}

#[test]
fn a_retry_that_steps_aside_rejoins_its_priority_at_the_end() {
    let mut machine = Machine::new(Rules::default());
    machine.push(job(0, 1), at(0));
    let failed = machine.claim(at(0)).unwrap();
    for (seq, priority) in [(1, 1), (2, 0)] {
        machine.push(job(seq, priority), at(0));
    }
    machine.put_back(failed, 2, Return::After(ms(10)), at(0));
    assert!(machine.promote(at(10)));
    assert_eq!(work(&mut machine, at(10)), [1, 0, 2]);
}

#[test]
fn a_retry_that_blocks_its_key_blocks_jobs_of_a_higher_priority_too() {
    for how in [
        Return::After(ms(10)),
        Return::Penalty(Scope::Key, ms(10)),
        Return::Now,
    ] {
        let mut machine = one_by_one();
        machine.push(job(0, 0), at(0));
        machine.push(job(1, 0), at(0));
        let failed = machine.claim(at(0)).unwrap();
        machine.put_back(failed, 2, how, at(0));
        machine.push(job(2, 100), at(0));
        if !matches!(how, Return::Now) {
            assert!(machine.claim(at(9)).is_none());
        }
        assert_eq!(work(&mut machine, at(10)), [0, 2, 1]);
    }
}

#[test]
fn urgent_jobs_of_a_hot_key_are_added_without_a_walk_along_its_jobs() {
    let mut machine = Machine::new(Rules::default());
    let count = 200_000;
    for seq in 0..count {
        machine.push(job(seq, 0), at(0));
    }
    // Quadratic, this would take hours.
    for seq in 0..count {
        machine.push(job(count + seq, (seq % 100) as i8), at(0));
    }
    let order = work(&mut machine, at(0));
    assert_eq!(order[0], count + 99);
    assert_eq!(order.len() as u64, 2 * count);
}
