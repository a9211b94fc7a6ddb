//! Bytes in Redis that are no job, or no pack: they end as dead letters, and keep nothing else.

use redis::cmd;

use super::support::*;
use crate::redis::RedisRemote;
use crate::redis::packs::Packing;
use crate::remote::{Ended, How, Remote};

const BY_TEN: Packing = Packing {
    fewest: 10,
    most: 10,
    notes: 100,
};

impl RedisRemote {
    fn name(&self, of: &str) -> String {
        format!("{}{of}", self.keys.base())
    }

    /// Replaces a pack in the list of the key `k`.
    async fn damage_pack(&self, index: i64, damage: impl Fn(&mut Vec<u8>)) {
        let mut get = cmd("LINDEX");
        get.arg(self.name("q:k")).arg(index);
        let mut pack: Vec<u8> = self.server.query(&get).await.unwrap();
        damage(&mut pack);
        let mut set = cmd("LSET");
        set.arg(self.name("q:k")).arg(index).arg(pack);
        let _: String = self.server.query(&set).await.unwrap();
    }

    async fn damage_job(&self, number: u64, bytes: &[u8]) {
        let mut set = cmd("HSET");
        let id = job("", number).id.to_bytes();
        set.arg(self.name("jobs")).arg(&id).arg(bytes);
        let _: u64 = self.server.query(&set).await.unwrap();
    }

    /// Nothing is left but so many letters, which can be read.
    async fn has_only_letters(&self, letters: u64) {
        let counts = self.counts().await.unwrap();
        let jobs = (counts.ready, counts.scheduled, counts.limited);
        assert_eq!((jobs, counts.in_flight), ((0, 0, 0), 0));
        assert_eq!(counts.dead, letters);
        let dead = self.dead(100).await.unwrap();
        assert_eq!(dead.len() as u64, letters);
        for letter in dead {
            let error = letter.errors.last().unwrap();
            assert!(error.contains("cannot be read"), "{error}");
            assert!(!letter.payload.is_empty());
        }
        assert_eq!(self.claim(1).await.next, None);
    }
}

#[tokio::test]
async fn a_pack_that_cannot_be_read_is_a_dead_letter_and_keeps_no_other_job() {
    let damages: [fn(&mut Vec<u8>); 5] = [
        |pack| pack.truncate(17),
        |pack| pack.truncate(30),
        |pack| pack[20..24].fill(0xff),
        // Who has leased it notices first.
        |pack| pack.truncate(pack.len() - 40),
        |pack| pack[24 + 160..24 + 164].fill(0xff),
    ];
    for (n, damage) in damages.into_iter().enumerate() {
        for at_once in [100, 7] {
            let Some(remote) = open_packing(BY_TEN).await else {
                return;
            };
            remote.add(&jobs("k", 0..30)).await;
            remote.add(&jobs("other", 30..40)).await;
            remote.damage_pack(1, damage).await;
            let mut granted = Vec::new();
            for _ in 0..10 {
                granted.extend(remote.claim(at_once).await.granted);
            }
            let mut numbers: Vec<u64> = granted.iter().map(number).collect();
            numbers.sort_unstable();
            let others: Vec<u64> = (0..10).chain(20..40).collect();
            assert_eq!(numbers, others, "{n}, {at_once} at once");
            // What only its holder could notice, the server does when it looks.
            let leases: Vec<_> = granted.iter().map(|job| job.lease).collect();
            assert_eq!(remote.extend(&leases, LEASE).await.unwrap(), []);
            let ended = remote.exchange(&done(&granted), want(0)).await.unwrap();
            assert_eq!(ended.lost, []);
            remote.has_only_letters(1).await;
        }
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_read_is_a_dead_letter_and_its_key_goes_on() {
    let bytes: [&[u8]; 4] = [b"", b"x", &[0; 25], &[0xff; 60]];
    for bytes in bytes {
        for rules in [crate::remote::Rules::default(), one_per_key()] {
            let Some(remote) = open_with(rules).await else {
                return;
            };
            remote.add(&jobs("k", 0..3)).await;
            remote.damage_job(0, bytes).await;
            for expected in [1, 2] {
                let granted = remote.claim_some(1).await.granted;
                assert_eq!(granted.iter().map(number).collect::<Vec<_>>(), [expected]);
                remote.settle(granted[0].lease, How::Done).await;
            }
            let dead = remote.dead(10).await.unwrap();
            assert_eq!(dead[0].payload, bytes);
            assert_eq!(dead.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_read_any_more_when_it_ends_is_a_dead_letter() {
    for how in [How::Released, retry(MS), snooze(MS, None)] {
        for rules in [crate::remote::Rules::default(), one_per_key()] {
            let Some(remote) = open_with(rules).await else {
                return;
            };
            remote.add(&jobs("k", 0..2)).await;
            let granted = remote.claim(1).await.granted;
            remote.damage_job(0, b"none").await;
            let ended: Vec<Ended> = granted
                .iter()
                .map(|job| end(job.lease, how.clone()))
                .collect();
            remote.tell(&ended).await;
            let next = remote.claim_some(1).await.granted;
            assert_eq!(number(&next[0]), 1);
            remote.settle(next[0].lease, How::Done).await;
            remote.has_only_letters(1).await;
        }
    }
}

#[tokio::test]
async fn a_queue_that_is_kept_in_another_format_is_refused_and_left_alone() {
    let Some(backend) = backend().await else {
        return;
    };
    let remote = backend.clone().open("q", None).await.unwrap();
    remote.add(&jobs("k", 0..2)).await;
    let mut set = cmd("HSET");
    set.arg(remote.keys.state()).arg("format").arg("0");
    let _: u64 = remote.server.query(&set).await.unwrap();
    let error = backend.clone().open("q", None).await.unwrap_err();
    assert!(
        matches!(error, crate::BackendError::Unfit { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("kept in format 0"), "{error}");
    assert_eq!(remote.claim(2).await.granted.len(), 2);
    // Another queue has its own.
    backend.open("other", None).await.unwrap();
}

#[tokio::test]
async fn batches_are_remembered_up_to_a_number() {
    let packing = Packing { notes: 3, ..BY_TEN };
    let Some(remote) = open_packing(packing).await else {
        return;
    };
    let batches: Vec<_> = (0..5).map(|n| jobs("k", 10 * n..10 * n + 10)).collect();
    for batch in &batches {
        remote.add(batch).await;
    }
    let mut size = cmd("ZCARD");
    size.arg(remote.name("added"));
    assert_eq!(remote.server.query::<u64>(&size).await.unwrap(), 3);
    // The last three are known, and those before are not.
    for (n, batch) in batches.iter().enumerate().rev() {
        remote.add(batch).await;
        let added = remote.counts().await.unwrap().ready - 50;
        assert_eq!(added, if n >= 2 { 0 } else { 20 - 10 * n as u64 });
    }
    let mut life = cmd("PTTL");
    life.arg(remote.name("added"));
    assert!(remote.server.query::<i64>(&life).await.unwrap() > 600_000);
}
