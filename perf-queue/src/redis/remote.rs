use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, FromRedisValue, cmd};

use super::connection::Connection;
use super::error::{failed, unreadable};
use super::keys::Keys;
use super::packs::Packing;
use super::script::{self, Script};
use super::wake::Wake;
use super::wire::{self, Record};
use super::{exchange, fit, packs, rules};
use crate::remote::{Counts, Ended, Exchange, Lease, Letter, NewJob, Quota, Remote, Rules, Want};
use crate::{BackendError, JobId, Scope};

/// For how long a batch may be added again after an answer that was lost: four attempts, each with the
/// time that it may take to connect, or a process that stood still meanwhile. This, and so many times the
/// time within which an answer comes.
const REPEATED_WITHIN: (Duration, u32) = (Duration::from_secs(600), 10);

/// A queue in Redis.
pub(crate) struct RedisRemote {
    pub(super) server: Connection,
    pub(super) keys: Keys,
    wake: Wake,
    limits: Limits,
    /// Jobs that differ in their payloads only go in packs, with one note for all that they have been added. It
    /// is for the jobs alone to say whether they do, or a repeated call would not find the note.
    pub(super) packing: Packing,
    /// What this process has set. Put back where the server has forgotten it.
    rules: Mutex<Option<Rules>>,
    /// How many dead letters had been dropped when it was last logged.
    dropped: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) capacity: usize,
    pub(super) dead_letters: usize,
}

impl RedisRemote {
    pub(super) fn new(server: Connection, keys: Keys, wake: Wake, limits: Limits) -> Self {
        Self {
            server,
            keys,
            wake,
            limits,
            packing: Packing::USUAL,
            rules: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }

    fn rules(&self) -> MutexGuard<'_, Option<Rules>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        arguments: impl Fn(&mut Cmd) + Send,
    ) -> Result<T, BackendError> {
        let answer = self.server.run(script, &self.keys, 0, arguments).await;
        answer.map_err(failed)
    }

    async fn set(&self, which: u8, rules: &Rules) -> Result<(), BackendError> {
        let arguments = |call: &mut Cmd| {
            rules::arguments(rules, call);
            call.arg(which);
        };
        self.run::<u64>(&script::SET_RULES, arguments).await?;
        Ok(())
    }

    /// Adds jobs that [`key_of_alike`] has a key of; false where one is there already, and none was added.
    async fn enqueue_alike(
        &self,
        jobs: &[NewJob],
        key: &[u8],
    ) -> Result<Option<bool>, BackendError> {
        if jobs.len() >= self.packing.fewest {
            let times = self
                .server
                .response_timeout()
                .saturating_mul(REPEATED_WITHIN.1);
            let repeated_within = micros(REPEATED_WITHIN.0.saturating_add(times)) / 1_000;
            let arguments = |call: &mut Cmd| {
                call.arg(self.limits.capacity).arg(jobs.len()).arg(key);
                call.arg(repeated_within).arg(self.packing.notes);
                packs::write(jobs, self.packing.most, |pack| {
                    call.arg(pack);
                });
            };
            let (script, bytes) = (&script::ENQUEUE_MANY, packs::size(jobs));
            let answer = self.server.run(script, &self.keys, bytes, arguments).await;
            return answer.map_err(failed);
        }
        self.run(&script::ENQUEUE_ALIKE, |call| {
            call.arg(self.limits.capacity).arg(jobs.len()).arg(key);
            for job in jobs {
                call.arg(&wire::id_bytes(job.id));
            }
            let mut rest = Vec::new();
            for job in jobs {
                rest.clear();
                wire::rest_of_record(job, &mut rest);
                call.arg(rest.as_slice());
            }
        })
        .await
    }

    /// An exchange, and when it was, in microseconds of the server's clock.
    pub(super) async fn exchange_by_clock(
        &self,
        ended: &[Ended],
        want: Want,
    ) -> Result<(Exchange, u64), BackendError> {
        let rules = *self.rules();
        let ask = async || {
            let arguments = |call: &mut Cmd| {
                let letters = self.limits.dead_letters;
                exchange::arguments(ended, want, letters, rules.is_some(), call);
            };
            self.server
                .run(&script::EXCHANGE, &self.keys, 0, arguments)
                .await
        };
        let mut answer = ask().await;
        if let (Err(error), Some(rules)) = (&answer, &rules)
            && error.code() == Some("NORULES")
        {
            tracing::warn!("Redis had forgotten the limits of the queue: they are set again");
            fit::format(&self.server, &self.keys).await?;
            self.set(0, rules).await?;
            answer = ask().await;
        }
        let answer = answer.map_err(failed)?;
        let read = exchange::read(answer).ok_or_else(|| unreadable("the answer to an exchange"))?;
        let before = self.dropped.fetch_max(read.dropped, Ordering::Relaxed);
        if read.dropped > before {
            tracing::warn!(
                letters = read.dropped - before,
                "the oldest dead letters were dropped: there were more than {}",
                self.limits.dead_letters
            );
        }
        if read.unreadable > 0 {
            tracing::error!(
                found = read.unreadable,
                "jobs, or packs of jobs, in Redis that cannot be read: their bytes are dead letters"
            );
        }
        Ok((read.exchange, read.now))
    }
}

impl Remote for RedisRemote {
    const NEXT_IS_EARLY: bool = true;

    fn address(&self) -> &str {
        self.server.address()
    }

    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Option<Vec<JobId>>, BackendError> {
        if let Some(key) = key_of_alike(jobs) {
            match self.enqueue_alike(jobs, key).await? {
                None => return Ok(None),
                Some(true) => return Ok(Some(jobs.iter().map(|job| job.id).collect())),
                Some(false) => {}
            }
        }
        // Those with a name first, as the script has them; where each was before.
        let (named, plain): (Vec<usize>, Vec<usize>) =
            (0..jobs.len()).partition(|i| jobs.get(*i).is_some_and(|job| job.unique.is_some()));
        let order: Vec<usize> = named.iter().chain(&plain).copied().collect();
        let answer: Option<Vec<(usize, Vec<u8>)>> = self
            .run(&script::ENQUEUE, |call| {
                call.arg(self.limits.capacity)
                    .arg(jobs.len())
                    .arg(named.len())
                    .arg(u8::from(jobs.iter().any(|job| job.rate.is_some())));
                let mut rest = Vec::new();
                for job in order.iter().filter_map(|i| jobs.get(*i)) {
                    if let Some((name, time)) = &job.unique {
                        call.arg(name).arg(micros(*time));
                    }
                    rest.clear();
                    wire::rest_of_record(job, &mut rest);
                    call.arg(&wire::id_bytes(job.id)).arg(job.key.as_slice());
                    call.arg(micros(job.delay)).arg(rest.as_slice());
                }
            })
            .await?;
        let Some(others) = answer else {
            return Ok(None);
        };
        let mut ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        for (number, id) in others {
            let index = number.checked_sub(1).and_then(|i| order.get(i));
            let place = index.and_then(|i| ids.get_mut(*i));
            let (Some(place), Some(id)) = (place, wire::id_of(&id)) else {
                return Err(unreadable("the answer to an enqueue"));
            };
            *place = id;
        }
        Ok(Some(ids))
    }

    async fn exchange(&self, ended: &[Ended], want: Want) -> Result<Exchange, BackendError> {
        Ok(self.exchange_by_clock(ended, want).await?.0)
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<JobId>, BackendError> {
        let time = micros(lease);
        let lost: Vec<Vec<u8>> = self
            .run(&script::EXTEND, |call| {
                let tokens = leases.iter().map(wire::Token::of);
                let batches: BTreeSet<u64> = tokens
                    .filter(|token| token.in_batch)
                    .map(|token| token.number)
                    .collect();
                call.arg(time).arg(batches.len());
                for batch in &batches {
                    call.arg(*batch);
                }
                for lease in leases {
                    call.arg(&wire::lease_bytes(lease));
                }
            })
            .await?;
        let lost: Option<Vec<JobId>> = lost.iter().map(|id| wire::id_of(id)).collect();
        lost.ok_or_else(|| unreadable("the answer to an extension"))
    }

    async fn counts(&self) -> Result<Counts, BackendError> {
        let (ready, scheduled, limited, in_flight, dead, oldest, paused, dropped) = self
            .run::<(u64, u64, u64, u64, u64, i64, bool, u64)>(&script::COUNTS, |_| {})
            .await?;
        Ok(Counts {
            ready,
            scheduled,
            limited,
            in_flight,
            dead,
            dropped,
            oldest: u64::try_from(oldest).ok().map(Duration::from_micros),
            paused,
        })
    }

    async fn set_rules(&self, rules: &Rules) -> Result<(), BackendError> {
        self.set(0, rules).await?;
        *self.rules() = Some(*rules);
        Ok(())
    }

    async fn set_rate(&self, scope: Scope, rate: Option<Quota>) -> Result<(), BackendError> {
        let which = match scope {
            Scope::Queue => 1,
            Scope::Key => 2,
        };
        self.set(which, &Rules::of(scope, rate)).await?;
        self.rules().get_or_insert_default().limit(scope, rate);
        Ok(())
    }

    async fn rules(&self) -> Result<Option<Rules>, BackendError> {
        let mut command = cmd("HGET");
        command.arg(self.keys.state()).arg("rules");
        let line: Option<String> = self.server.query(&command).await.map_err(failed)?;
        line.map(|line| rules::read(&line).ok_or_else(|| unreadable("the rules")))
            .transpose()
    }

    async fn pause(&self, paused: bool) -> Result<(), BackendError> {
        self.run::<u64>(&script::PAUSE, |call| {
            call.arg(u8::from(paused));
        })
        .await?;
        Ok(())
    }

    async fn dead(&self, at_most: usize) -> Result<Vec<Letter>, BackendError> {
        let letters: Vec<(Vec<u8>, Option<Vec<u8>>)> = self
            .run(&script::DEAD, |call| {
                call.arg(at_most.min(u32::MAX as usize));
            })
            .await?;
        let letters = letters
            .into_iter()
            .filter_map(|(id, letter)| Some((id, letter?)));
        let read = |(id, letter): (Vec<u8>, Vec<u8>)| {
            let (died, record, errors) = wire::read_letter(&letter)?;
            Some(letter_of(wire::id_of(&id)?, died, record, errors))
        };
        let letters: Option<Vec<Letter>> = letters.map(read).collect();
        letters.ok_or_else(|| unreadable("the dead letters"))
    }

    async fn replay(&self, id: JobId) -> Result<Option<bool>, BackendError> {
        let outcome: i64 = self
            .run(&script::REPLAY, |call| {
                call.arg(self.limits.capacity).arg(&wire::id_bytes(id));
            })
            .await?;
        Ok((outcome >= 0).then_some(outcome == 1))
    }

    async fn purge(&self, older_than: Duration) -> Result<u64, BackendError> {
        self.run(&script::PURGE, |call| {
            call.arg(micros(older_than));
        })
        .await
    }

    async fn woken(&self) {
        self.wake.woken().await;
    }
}

impl fmt::Debug for RedisRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRemote")
            .field("keys", &self.keys.base())
            .finish_non_exhaustive()
    }
}

/// The key of jobs that go into one list, as most do: they take the server half the work of others.
/// Ids that ascend are each there once.
fn key_of_alike(jobs: &[NewJob]) -> Option<&[u8]> {
    let first = jobs.first()?;
    let plain = |job: &NewJob| {
        job.key == first.key
            && job.priority == 0
            && job.delay.is_zero()
            && job.unique.is_none()
            && job.rate.is_none()
    };
    let once = jobs.is_sorted_by(|a, b| a.id < b.id);
    (once && jobs.iter().all(plain)).then_some(&first.key)
}

fn letter_of(id: JobId, died: u64, record: Record, errors: Vec<String>) -> Letter {
    Letter {
        id,
        key: record.key,
        payload: record.payload,
        attempts: record.attempt,
        errors,
        age: Duration::from_micros(died.saturating_sub(record.enqueued)),
    }
}

/// Whole microseconds, rounded up, and no more than 35 years of them: added to the clock, they are
/// exact as numbers of Lua.
pub(super) fn micros(time: Duration) -> u64 {
    let micros = time.as_nanos().div_ceil(1_000).min(1 << 50);
    u64::try_from(micros).unwrap_or(u64::MAX)
}
