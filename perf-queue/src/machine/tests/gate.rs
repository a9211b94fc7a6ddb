//! What is to be told before a job starts.

use super::*;

fn rules(queue: Option<Pace>, key: Option<Pace>) -> Rules {
    Rules {
        queue,
        key,
        ..Rules::default()
    }
}

fn with_jobs(rules: Rules, jobs: u64) -> Machine<u64, u64> {
    let mut machine = Machine::new(rules);
    for seq in 0..jobs {
        push(&mut machine, seq, seq, at(0));
    }
    machine
}

/// What the next claim asks for, which starts nothing.
fn ask(machine: &mut Machine<u64, u64>, now: Time) -> Option<Ask> {
    assert!(machine.claim(now).is_none());
    // Said once, and nobody is woken until the answer.
    let asked = machine.asked().0;
    assert_eq!(machine.take_asked(), asked.is_some());
    assert!(machine.claim(now).is_none());
    assert!(!machine.take_asked());
    if asked.is_some() {
        assert_eq!(machine.next_at(), None);
    }
    asked
}

#[test]
fn the_first_start_is_asked_for_when_it_could_be_and_counts_from_the_answer_on() {
    let mut machine = with_jobs(rules(Some(paced(10, 1_000)), None), 3);
    machine.hold_until(at(50));
    machine.shut();
    assert_eq!(ask(&mut machine, at(0)), None);
    assert_eq!(machine.next_at(), Some(at(50)));
    assert_eq!(ask(&mut machine, at(50)), Some(Ask::Starts));
    machine.answer(Ask::Starts);
    // One, however many slots have gone by.
    assert_eq!(machine.next_at(), Some(at(50)));
    assert_eq!(work(&mut machine, at(5_000)), [0]);
    assert_eq!(work(&mut machine, at(5_100)), [1]);
    machine.shut();
    assert_eq!(ask(&mut machine, at(5_200)), Some(Ask::Starts));
    // Asked anew, as what it was asked for may be over.
    machine.shut();
    assert_eq!(ask(&mut machine, at(5_200)), Some(Ask::Starts));
    machine.answer(Ask::Starts);
    assert_eq!(work(&mut machine, at(5_200)), [2]);
    machine.shut();
    assert_eq!(ask(&mut machine, at(6_000)), None);
}

#[test]
fn suspects_are_asked_for_one_by_one_and_no_other_job_starts_meanwhile() {
    for rules in [
        rules(Some(at_once(10, 1_000)), None),
        rules(None, Some(at_once(1, 1_000))),
    ] {
        let mut machine = with_jobs(rules, 4);
        machine.suspect([1, 2]);
        assert_eq!(machine.claim(at(0)).unwrap().payload, 0);
        for suspect in [1, 2] {
            assert_eq!(ask(&mut machine, at(0)), Some(Ask::Suspect(suspect)));
            machine.answer(Ask::Suspect(suspect));
            assert_eq!(machine.claim(at(0)).unwrap().payload, suspect);
        }
        assert_eq!(work(&mut machine, at(0)), [3]);
    }
}

#[test]
fn suspects_without_a_limit_wait_for_nothing() {
    let mut machine = with_jobs(rules(None, None), 4);
    machine.suspect([1, 2]);
    assert_eq!(work(&mut machine, at(0)), [0, 1, 2, 3]);
}
