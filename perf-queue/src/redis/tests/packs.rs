use std::time::Duration;

use super::support::*;
use crate::redis::RedisRemote;
use crate::redis::packs::Packing;
use crate::remote::{Ended, Granted, How, Remote, Rules};

const BY_TEN: Packing = Packing {
    fewest: 10,
    most: 10,
    notes: 3,
};

async fn open_by_ten() -> Option<RedisRemote> {
    open_packing(BY_TEN).await
}

/// How long leases last that are to end.
const BRIEF: Duration = Duration::from_millis(20);

/// Asks until no more than so many leases are left.
async fn leases_end(remote: &RedisRemote, left: u64) {
    let asked = async {
        while remote.counts().await.unwrap().in_flight > left {
            let next = remote.claim(0).await.next;
            tokio::time::sleep(next.unwrap_or(MS).clamp(MS / 10, 20 * MS)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked)
        .await
        .unwrap();
}

/// Ends all, and finds nothing left.
async fn end_all(remote: &RedisRemote, granted: &[Granted]) {
    assert_eq!(remote.tell(&done(granted)).await, []);
    assert_eq!(remote.claim(1).await.next, None);
    let counts = remote.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight, counts.limited), (0, 0, 0));
    // Not one key is left of them but the state and the notes.
    for name in remote.names("").await {
        assert!(name == b"state" || name == b"added", "{name:?}");
    }
}

#[tokio::test]
async fn packs_come_as_they_were_enqueued_in_any_number_at_a_time() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    remote.add(&jobs("k", 0..35)).await;
    remote.add(&jobs("k", 35..38)).await;
    remote.add(&jobs("k", 38..70)).await;
    let mut all = Vec::new();
    for n in [1, 3, 10, 0, 21, 35] {
        let exchange = remote.claim(n).await;
        assert_eq!(exchange.granted.len(), n);
        all.extend(exchange.granted);
        let counts = remote.counts().await.unwrap();
        assert_eq!(counts.in_flight, all.len() as u64);
        assert_eq!(counts.ready, 70 - all.len() as u64);
    }
    assert!(all.iter().map(number).eq(0..70));
    assert!(all.iter().all(|job| job.key == b"k" && job.attempt == 1));
    assert!(all.is_sorted_by_key(|job| job.lease.token));
    end_all(&remote, &all).await;
}

#[tokio::test]
async fn packs_are_leased_whole_and_one_that_does_not_fit_waits_for_the_next_claim() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    remote.add(&jobs("k", 0..35)).await;
    let first = remote.claim(25).await;
    assert_eq!(first.granted.len(), 20);
    assert_eq!(first.next, Some(Duration::ZERO));
    // Jobs of packs are in the packs alone.
    let mut length = redis::cmd("HLEN");
    length.arg(&remote.keys.all()[1]);
    assert_eq!(remote.server.query::<u64>(&length).await.unwrap(), 0);
    let second = remote.claim(25).await;
    let all: Vec<_> = first.granted.into_iter().chain(second.granted).collect();
    assert!(all.iter().map(number).eq(0..35));
    end_all(&remote, &all).await;
}

#[tokio::test]
async fn keys_take_turns_whatever_of_them_is_packed() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    remote.add(&jobs("hot", 0..1_000)).await;
    remote.add(&jobs("cold", 1_000..1_002)).await;
    assert_eq!(
        numbers(&remote.claim(5).await),
        [0, 1_000, 1, 1_001, 2],
        "one of each in turn"
    );
}

#[tokio::test]
async fn an_answer_that_was_lost_adds_no_pack_twice_also_when_its_jobs_are_done() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    let batch = jobs("k", 0..25);
    remote.add(&batch).await;
    remote.add(&batch).await;
    let granted = remote.claim(100).await.granted;
    assert_eq!(granted.len(), 25);
    remote.add(&batch).await;
    end_all(&remote, &granted).await;
    remote.add(&batch).await;
    assert_eq!(remote.claim(100).await.granted, []);
}

#[tokio::test]
async fn packs_count_towards_the_capacity_while_they_wait_and_run() {
    let Some(backend) = backend().await else {
        return;
    };
    let mut remote = backend.capacity(30).open("q", None).await.unwrap();
    remote.packing = BY_TEN;
    remote.add(&jobs("k", 0..20)).await;
    assert_eq!(remote.enqueue(&jobs("k", 20..31)).await.unwrap(), None);
    let granted = remote.claim(20).await.granted;
    assert_eq!(remote.enqueue(&jobs("k", 20..31)).await.unwrap(), None);
    assert_eq!(remote.tell(&done(&granted[..1])).await, []);
    remote.add(&jobs("k", 20..31)).await;
    assert_eq!(remote.enqueue(&jobs("k", 31..32)).await.unwrap(), None);
}

#[tokio::test]
async fn jobs_of_a_batch_end_in_any_order_and_each_once() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    remote.add(&jobs("k", 0..60)).await;
    let first = remote.claim(30).await.granted;
    let second = remote.claim(30).await.granted;
    let mut ended: Vec<Ended> = [done(&first), done(&second)].concat();
    fastrand::shuffle(&mut ended);
    let mut told = 0;
    for part in ended.chunks(7) {
        assert_eq!(remote.tell(part).await, []);
        told += part.len();
        let counts = remote.counts().await.unwrap();
        assert_eq!(counts.in_flight, 60 - told as u64);
        // Once more, as after an answer that was lost, with some that are new.
        let lost = remote.tell(part).await;
        assert_eq!(lost.len(), part.len());
    }
    let lost = remote.tell(&ended).await;
    assert_eq!(lost.len(), 60);
    end_all(&remote, &[]).await;
}

#[tokio::test]
async fn of_a_batch_that_nobody_prolonged_the_jobs_that_are_not_done_run_again_in_their_order() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    remote.add(&jobs("k", 0..30)).await;
    let old = remote.lend(20, BRIEF).await;
    assert!(old.next.is_some_and(|next| next <= 20 * MS));
    let old = old.granted;
    remote.tell(&done(&old[3..6])).await;
    leases_end(&remote, 0).await;
    let again = remote.claim_some(100).await.granted;
    let expected = (0..3).chain(6..30);
    assert!(again.iter().map(number).eq(expected));
    assert!(again[..17].iter().all(|job| job.attempt == 2));
    // Who holds the old leases has no say any more, in whatever it says.
    let leases: Vec<_> = old.iter().map(|job| job.lease).collect();
    assert_eq!(remote.extend(&leases, LEASE).await.unwrap().len(), 20);
    for how in [How::Done, How::Released, retry(MS), snooze(MS, None)] {
        let ended: Vec<Ended> = leases.iter().map(|it| end(*it, how.clone())).collect();
        let lost = remote.tell(&ended).await;
        assert_eq!(lost.len(), 20, "{how:?}");
    }
    assert_eq!(remote.counts().await.unwrap().in_flight, 27);
    end_all(&remote, &again).await;
}

#[tokio::test]
async fn packs_and_single_jobs_that_were_leased_at_once_come_back_in_their_order() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    remote.add(&jobs("k", 0..20)).await;
    remote.add(&jobs("k", 20..22)).await;
    remote.add(&jobs("k", 22..32)).await;
    let leased = remote.lend(32, BRIEF).await.granted;
    assert!(leased.iter().map(number).eq(0..32));
    assert!(leased.is_sorted_by_key(|job| job.lease.token));
    leases_end(&remote, 0).await;
    let again = remote.claim_some(32).await.granted;
    assert!(again.iter().map(number).eq(0..32));
    let released: Vec<Ended> = again
        .iter()
        .map(|job| end(job.lease, How::Released))
        .collect();
    remote.tell(&released).await;
    let third = remote.claim_some(32).await.granted;
    assert!(third.iter().map(number).eq(0..32));
    end_all(&remote, &third).await;
}

#[tokio::test]
async fn batches_that_end_at_once_come_back_before_what_waits_behind_them() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    remote.add(&jobs("k", 0..40)).await;
    for _ in 0..3 {
        let leased = remote.lend(10, BRIEF).await;
        assert_eq!(leased.granted.len(), 10);
    }
    leases_end(&remote, 0).await;
    let again = remote.claim_some(100).await.granted;
    assert!(again.iter().map(number).eq(0..40));
    end_all(&remote, &again).await;
}

#[tokio::test]
async fn a_batch_that_the_server_lost_keeps_no_other_job() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    remote.add(&jobs("k", 0..20)).await;
    let leased = remote.lend(10, BRIEF).await.granted;
    remote.tell(&done(&leased[..3])).await;
    let names = remote.names("b:").await;
    assert_eq!(names.len(), 1);
    let mut delete = redis::cmd("DEL");
    delete.arg([remote.keys.base().as_bytes(), &names[0]].concat());
    let _: u64 = remote.server.query(&delete).await.unwrap();
    leases_end(&remote, 0).await;
    let rest = remote.claim_some(100).await.granted;
    assert!(rest.iter().map(number).eq(10..20));
    end_all(&remote, &rest).await;
}

#[tokio::test]
async fn what_is_not_done_leaves_its_batch_and_the_others_in_it() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    remote.add(&jobs("k", 0..20)).await;
    let granted = remote.claim(20).await.granted;
    let mut ended = done(&granted[..7]);
    ended[1].how = How::Released;
    ended[2].how = retry(LONG);
    ended[3].how = snooze(Duration::ZERO, None);
    ended[4].how = How::Dead {
        error: "no".to_owned(),
    };
    assert_eq!(remote.tell(&ended).await, []);
    // All of it again: the answer was lost.
    assert_eq!(remote.tell(&ended).await.len(), 7);
    let counts = remote.counts().await.unwrap();
    assert_eq!((counts.in_flight, counts.ready), (13, 2));
    assert_eq!((counts.scheduled, counts.dead), (1, 1));
    let back = remote.claim(10).await.granted;
    assert_eq!(back.iter().map(number).collect::<Vec<_>>(), [1, 3]);
    let rest = [&granted[7..], &back].concat();
    assert_eq!(remote.tell(&done(&rest)).await, []);
    assert_eq!(remote.counts().await.unwrap().in_flight, 0);
}

#[tokio::test]
async fn each_lease_of_a_batch_is_prolonged_by_itself() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    remote.add(&jobs("k", 0..20)).await;
    let granted = remote.lend(20, BRIEF).await.granted;
    let kept: Vec<_> = granted[5..15].iter().map(|job| job.lease).collect();
    assert_eq!(remote.extend(&kept, LEASE).await.unwrap(), []);
    leases_end(&remote, 10).await;
    let mut again = remote.claim_some(100).await.granted;
    assert!(again.iter().map(number).eq((0..5).chain(15..20)));
    again.extend_from_slice(&granted[5..15]);
    end_all(&remote, &again).await;
}

#[tokio::test]
async fn nobody_ends_a_job_of_a_batch_with_a_lease_that_never_was() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    remote.add(&jobs("k", 0..20)).await;
    let granted = remote.claim(20).await.granted;
    let mut forged = [granted[0].lease, granted[0].lease, granted[0].lease];
    forged[0].token += 1;
    forged[1].token += 1_000;
    forged[2].id = granted[1].lease.id;
    let ended: Vec<Ended> = forged.iter().map(|it| end(*it, How::Done)).collect();
    assert_eq!(remote.tell(&ended).await.len(), 3);
    assert_eq!(remote.counts().await.unwrap().in_flight, 20);
    end_all(&remote, &granted).await;
}

#[tokio::test]
async fn a_limit_that_comes_when_packs_wait_and_run_holds_for_them() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    for key in ["a", "b"] {
        let from = u64::from(key.as_bytes()[0]) * 100;
        remote.add(&jobs(key, from..from + 40)).await;
    }
    let mut running = remote.claim(40).await.granted;
    let rules = Rules {
        concurrency_per_key: Some(21),
        ..Rules::default()
    };
    remote.set_rules(&rules).await.unwrap();
    // 20 of each run.
    let more = remote.claim(100).await.granted;
    assert_eq!(more.len(), 2);
    running.extend(more);
    assert_eq!(remote.counts().await.unwrap().limited, 38);
    let exchange = remote.exchange(&done(&running), want(100)).await.unwrap();
    assert_eq!((exchange.lost.len(), exchange.granted.len()), (0, 38));
    end_all(&remote, &exchange.granted).await;
}

#[tokio::test]
async fn jobs_in_packs_of_a_key_that_is_held_are_counted_as_limited() {
    let Some(remote) = open_by_ten().await else {
        return;
    };
    remote.add(&jobs("a", 0..40)).await;
    remote.add(&jobs("b", 40..60)).await;
    let granted = remote.claim(1).await.granted;
    let how = snooze(LONG, Some(crate::Scope::Key));
    remote.settle(granted[0].lease, how).await;
    let others = remote.claim(100).await.granted;
    assert!(others.iter().map(number).eq(40..60));
    let counts = remote.counts().await.unwrap();
    assert_eq!((counts.limited, counts.scheduled), (39, 1));
    assert!(counts.oldest.is_some());
}

#[tokio::test]
async fn jobs_of_a_key_without_packs_are_taken_at_once_while_another_key_has_packs() {
    let Some(own) = testkit::Redis::start().await else {
        return;
    };
    let backend = crate::Redis::connect(own.url()).allow_data_loss();
    let mut remote = backend.open("q", None).await.unwrap();
    remote.packing = BY_TEN;
    remote.add(&jobs("plain", 0..5)).await;
    remote.add(&jobs("plain", 5..9)).await;
    remote.add(&jobs("packed", 9..19)).await;
    let mut reset = redis::cmd("CONFIG");
    reset.arg("RESETSTAT");
    let _: String = remote.server.query(&reset).await.unwrap();
    assert_eq!(remote.claim(20).await.granted.len(), 19);
    let mut info = redis::cmd("INFO");
    info.arg("commandstats");
    let stats: String = remote.server.query(&info).await.unwrap();
    let pops = stats.split("cmdstat_lpop:calls=").nth(1).unwrap();
    let pops: u64 = pops.split(',').next().unwrap().parse().unwrap();
    // The ring's keys, those of the one, and the pack.
    assert!(pops <= 5, "{pops}: {stats}");
}
