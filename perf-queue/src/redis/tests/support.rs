use std::time::Duration;

use crate::redis::packs::Packing;
use crate::redis::{Redis, RedisRemote};
use crate::remote::{Ended, Exchange, Granted, How, Lease, NewJob, Quota, Remote, Rules, Want};
use crate::{JobId, Scope};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const LEASE: Duration = Duration::from_secs(30);
/// Longer than any test waits.
pub(super) const LONG: Duration = Duration::from_secs(3_600);

/// A backend on the shared server below a prefix of its own.
pub(super) async fn backend() -> Option<Redis> {
    let server = testkit::Redis::shared().await?;
    Some(
        Redis::connect(server.url())
            .prefix(server.prefix())
            .allow_data_loss(),
    )
}

pub(super) async fn open_with(rules: Rules) -> Option<RedisRemote> {
    Some(backend().await?.open("q", Some(&rules)).await.unwrap())
}

pub(super) async fn open() -> Option<RedisRemote> {
    open_with(Rules::default()).await
}

/// Any two jobs are packed.
pub(super) const SMALL_PACKS: Packing = Packing {
    fewest: 2,
    most: 3,
    notes: 100,
};

pub(super) async fn open_packing(packing: Packing) -> Option<RedisRemote> {
    let mut remote = open().await?;
    remote.packing = packing;
    Some(remote)
}

pub(super) const fn quota(quota: u32, period: Duration, burst: u32) -> Quota {
    Quota {
        quota,
        period,
        burst,
    }
}

pub(super) fn one_per_key() -> Rules {
    Rules {
        concurrency_per_key: Some(1),
        ..Rules::default()
    }
}

/// A job whose number is its payload.
pub(super) fn job(key: &str, number: u64) -> NewJob {
    NewJob {
        id: JobId::new(7, number),
        key: key.as_bytes().to_vec(),
        payload: number.to_be_bytes().to_vec(),
        delay: Duration::ZERO,
        priority: 0,
        unique: None,
        rate: None,
        trace: String::new(),
    }
}

pub(super) fn jobs(key: &str, numbers: std::ops::Range<u64>) -> Vec<NewJob> {
    numbers.map(|number| job(key, number)).collect()
}

pub(super) fn number(granted: &Granted) -> u64 {
    u64::from_be_bytes(granted.payload.as_slice().try_into().unwrap())
}

pub(super) fn numbers(exchange: &Exchange) -> Vec<u64> {
    exchange.granted.iter().map(number).collect()
}

pub(super) const fn want(jobs: usize) -> Want {
    Want {
        jobs,
        within: Duration::ZERO,
        lease: LEASE,
    }
}

pub(super) fn end(lease: Lease, how: How) -> Ended {
    Ended { lease, how }
}

pub(super) fn done(granted: &[Granted]) -> Vec<Ended> {
    granted
        .iter()
        .map(|granted| end(granted.lease, How::Done))
        .collect()
}

pub(super) fn retry(after: Duration) -> How {
    How::Retry {
        after,
        error: "no".to_owned(),
    }
}

pub(super) const fn snooze(after: Duration, penalty: Option<Scope>) -> How {
    How::Snooze { after, penalty }
}

impl RedisRemote {
    pub(super) async fn add(&self, jobs: &[NewJob]) {
        let ids = self.enqueue(jobs).await.unwrap().unwrap();
        assert_eq!(ids.len(), jobs.len());
    }

    pub(super) async fn claim(&self, jobs: usize) -> Exchange {
        self.exchange(&[], want(jobs)).await.unwrap()
    }

    /// Claims jobs that are leased for so long.
    pub(super) async fn lend(&self, jobs: usize, lease: Duration) -> Exchange {
        let want = Want {
            lease,
            ..want(jobs)
        };
        self.exchange(&[], want).await.unwrap()
    }

    /// Ends a job and claims nothing.
    pub(super) async fn settle(&self, lease: Lease, how: How) -> Exchange {
        let exchange = self.exchange(&[end(lease, how)], want(0)).await.unwrap();
        assert!(exchange.granted.is_empty());
        exchange
    }

    /// Ends jobs and claims nothing; the jobs whose leases were others' or none.
    pub(super) async fn tell(&self, ended: &[Ended]) -> Vec<JobId> {
        self.exchange(ended, want(0)).await.unwrap().lost
    }

    /// The names of the keys of the queue that begin so, without what all of them begin with.
    pub(super) async fn names(&self, begin: &str) -> Vec<Vec<u8>> {
        let base = self.keys.base();
        let mut keys = redis::cmd("KEYS");
        keys.arg(format!("{}{begin}*", base.replace('[', "\\[")));
        let names: Vec<Vec<u8>> = self.server.query(&keys).await.unwrap();
        let rest = |name: &Vec<u8>| name[base.len()..].to_vec();
        names.iter().map(rest).collect()
    }

    /// Asks until something is granted.
    pub(super) async fn claim_some(&self, jobs: usize) -> Exchange {
        loop {
            let exchange = self.claim(jobs).await;
            if !exchange.granted.is_empty() {
                return exchange;
            }
            tokio::time::sleep(exchange.next.unwrap_or(MS).clamp(MS / 10, 20 * MS)).await;
        }
    }
}
