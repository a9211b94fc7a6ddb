//! Between the buffer and the server: tells how jobs ended, leases others ahead of the workers, and
//! prolongs the leases.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, sleep_until};

use super::buffer::Waiting;
use super::codec::decode;
use super::inner::Inner;
use super::{Ended, Exchange, Granted, Remote, Want};
use crate::backend::{Hold, Taken};
use crate::job_error::chain;
use crate::panics::log;

/// How often the server is asked though it did not call: what a lost notification costs.
const POLL: Duration = Duration::from_secs(1);

/// Jobs in one exchange at most: the longest that a server is kept from others is some milliseconds.
const AT_ONCE: usize = 1_000;

/// Jobs are leased ahead of the workers for as long as it takes to get others, several times over; not
/// longer, as another process may have workers that are idle.
const AHEAD: Duration = Duration::from_millis(20);

/// While all workers have something to do, an exchange waits for half of what is leased ahead to have
/// ended, as few large ones cost the server less than many small ones; for no longer than that takes
/// at the speed so far.
const LINGER: Duration = Duration::from_millis(10);

/// How far ahead slots of a limit are taken: a trip and a timer's lateness must fit in.
const WITHIN: Duration = Duration::from_millis(100);

/// The least between two exchanges that brought nothing.
const AT_LEAST: Duration = Duration::from_millis(5);

/// How long after an exchange that failed the next is tried, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Leases prolonged in one call.
const BEAT_AT_ONCE: usize = 1_000;

/// How fast the workers are done with jobs, and so how many are worth leasing ahead.
struct Speed {
    ended: u64,
    since: Instant,
    per_second: f64,
}

impl Speed {
    /// A weighted mean of the times from exchange to exchange: half of it is the last one.
    fn note(&mut self, ended: u64, now: Instant) {
        let took = (now - self.since).as_secs_f64();
        if took > 0.0 {
            let done = ended.saturating_sub(self.ended) as f64;
            self.per_second = self.per_second.midpoint(done / took);
            (self.ended, self.since) = (ended, now);
        }
    }

    fn ahead(&self) -> usize {
        ((self.per_second * AHEAD.as_secs_f64()) as usize).min(AT_ONCE)
    }
}

/// Runs until the backend is dropped and all that ended is told, as far as the server answers.
pub(super) async fn run<T, R>(inner: Arc<Inner<T, R>>)
where
    T: DeserializeOwned + Send + 'static,
    R: Remote,
{
    let mut speed = Speed {
        ended: 0,
        since: Instant::now(),
        per_second: 0.0,
    };
    let mut ask_at = Instant::now();
    let mut tell_at = ask_at;
    let mut failures = 0_u32;
    let mut limited = false;
    loop {
        let stopping = inner.stop.load(Relaxed);
        if inner.enqueued.swap(false, Relaxed) {
            ask_at = Instant::now();
        }
        let now = Instant::now();
        let (ended, jobs, recalls, stale_at) = {
            let mut state = inner.lock();
            if stopping {
                state.buffer.release();
            }
            if state.buffer.release_stale(now) {
                // Whatever the speed was, the workers are slow now.
                speed.per_second = 0.0;
            }
            let free = state.buffer.free();
            let linger = tell_at > now
                && state.buffer.workers > 0
                && free == 0
                && !(stopping || limited || state.buffer.has_penalty())
                && state.buffer.ended() < speed.ahead() / 2;
            if !linger {
                speed.note(state.tally.ended, now);
            }
            let ahead = if limited { 0 } else { speed.ahead() };
            let jobs = if stopping {
                0
            } else {
                state.buffer.short_of(ahead).min(AT_ONCE)
            };
            let tell = state.buffer.has_ended();
            // Only for workers that wait, or along with what is to be told.
            let ask = jobs > 0 && ask_at <= now && (free > 0 || tell || ahead > 0);
            let (ended, jobs) = if linger || !tell && !ask {
                (Vec::new(), None)
            } else {
                state.telling = true;
                let ended = state.buffer.take_ended(AT_ONCE);
                // What a penalty stops must not come before the server knows of it.
                let known = !state.buffer.has_penalty();
                (ended, Some(if known { jobs } else { 0 }))
            };
            if jobs.is_none() && !linger {
                inner.remote.rest();
            }
            (ended, jobs, state.buffer.recalls(), state.buffer.stale_at())
        };
        let Some(jobs) = jobs else {
            if stopping {
                return;
            }
            tokio::select! {
                () = inner.news.notified() => {}
                () = inner.remote.woken() => inner.enqueued.store(true, Relaxed),
                // Where it is time already, all workers are busy.
                () = sleep_until(ask_at), if ask_at > now => {}
                () = sleep_until(tell_at), if tell_at > now => {}
                () = sleep_until(stale_at.unwrap_or(now)), if stale_at.is_some() => {}
            }
            continue;
        };
        let want = Want {
            jobs,
            within: WITHIN,
            lease: inner.lease,
        };
        let asked = Asked {
            at: Instant::now(),
            recalls,
        };
        match inner.remote.exchange(&ended, want).await {
            Ok(exchange) => {
                failures = 0;
                let received = Instant::now();
                tell_at = received + LINGER;
                if exchange.granted.len() < jobs || exchange.paused {
                    ask_at = received + ask_in::<R>(exchange.next);
                }
                limited = exchange
                    .granted
                    .iter()
                    .any(|job| job.limited && !job.starts.is_zero())
                    || (limited && exchange.granted.is_empty());
                if exchange.untold {
                    inner.lock().buffer.put_back(ended);
                }
                take(&inner, exchange, asked, received);
            }
            Err(error) => {
                let (error, at) = (chain(&error), inner.remote.address());
                log!(
                    warn,
                    error,
                    at,
                    failures,
                    "the queue's server did not take an exchange"
                );
                untold(&inner, ended);
                if stopping {
                    // The leases end by themselves.
                    return;
                }
                let wait = (AGAIN.0 * 2_u32.saturating_pow(failures.min(10))).min(AGAIN.1);
                failures = failures.saturating_add(1);
                inner.remote.rest();
                sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                ask_at = Instant::now();
            }
        }
    }
}

/// How long to wait before the server is asked again, where it had less than was wanted.
fn ask_in<R: Remote>(next: Option<Duration>) -> Duration {
    let next = next.unwrap_or(POLL).min(POLL);
    if next.is_zero() {
        return next;
    }
    let early = if R::NEXT_IS_EARLY {
        Duration::ZERO
    } else {
        WITHIN / 2
    };
    // What falls due, and no slot, is not there before its time.
    next.saturating_sub(early).max(AT_LEAST)
}

/// Keeps what could not be told.
fn untold<T, R>(inner: &Inner<T, R>, ended: Vec<Ended>) {
    let mut state = inner.lock();
    state.buffer.put_back(ended);
    state.telling = false;
}

/// When an exchange was asked for, and after how many recalls.
#[derive(Clone, Copy)]
struct Asked {
    at: Instant,
    recalls: u64,
}

/// Puts what was granted where workers find it.
fn take<T, R>(inner: &Inner<T, R>, exchange: Exchange, asked: Asked, received: Instant)
where
    T: DeserializeOwned,
{
    for id in &exchange.lost {
        log!(debug, job = %id, "the lease was over before the job's end was told");
    }
    let [by_queue, by_key] = exchange.limited;
    inner
        .meters
        .limited(crate::machine::Limited { by_queue, by_key });
    // Decoding is the user's code, and stays outside of the lock.
    let until = asked.at + inner.lease;
    let granted: Vec<_> = exchange
        .granted
        .into_iter()
        .map(|job| waiting(job, received, until, inner.max_attempts))
        .collect();
    let mut state = inner.lock();
    state.buffer.told(asked.recalls);
    let mut more = false;
    for job in granted {
        match job {
            Ok(job) => {
                state.buffer.add(job, asked.recalls);
                more = true;
            }
            Err((lease, error)) => {
                log!(warn, job = %lease.id, error, "a job that cannot be run");
                state.tally.died += 1;
                state.buffer.refuse(lease, error);
            }
        }
    }
    if state.buffer.workers == 0 {
        // They went while the server was asked.
        state.buffer.release();
    }
    state.telling = false;
    let quiet = state.buffer.is_quiet();
    let wake = state.buffer.workers.min(if more { usize::MAX } else { 0 });
    inner.finish(state, received);
    // One is woken by the next; here all at once, as there is something for all of them.
    if wake > 1 {
        inner.signals.workers.notify_waiters();
    }
    if quiet {
        inner.quiet.notify_waiters();
    }
}

/// What a job is while it waits in the buffer.
fn taken<T>(job: T, granted: Granted) -> Taken<T> {
    Taken {
        job,
        id: granted.lease.id,
        trace: (!granted.trace.is_empty()).then(|| granted.trace.into_boxed_str()),
        errors: granted.errors.into(),
        hold: Hold::Lease {
            token: granted.lease.token,
            since: Instant::now(),
        },
    }
}

/// Of a job whose attempts all ended like that, or the last one.
const GONE: &str = "the process ended, or lost its lease, while the job ran";

type Undecoded = (super::Lease, String);

fn waiting<T: DeserializeOwned>(
    mut job: Granted,
    received: Instant,
    until: Instant,
    max_attempts: u32,
) -> Result<Waiting<T>, Undecoded> {
    if job.attempt > max_attempts {
        return Err((job.lease, GONE.to_owned()));
    }
    let payload = std::mem::take(&mut job.payload);
    let decoded: T = decode(payload).map_err(|error| (job.lease, error.to_string()))?;
    Ok(Waiting {
        lease: job.lease,
        key: std::mem::take(&mut job.key),
        attempt: job.attempt,
        slot: received + job.starts,
        until,
        limited: job.limited,
        enqueued_before: job.age,
        due_before: job.waited,
        received,
        taken: taken(decoded, job),
    })
}

/// Prolongs the leases, a third of their time apart, for as long as there is a backend.
pub(super) async fn beat<T: Send + 'static, R: Remote>(inner: Weak<Inner<T, R>>) {
    loop {
        let Some(lease) = inner.upgrade().map(|inner| inner.lease) else {
            return;
        };
        sleep(lease / 3).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let (leases, came) = inner.lock().buffer.leases();
        let asked = Instant::now();
        let mut all = true;
        for leases in leases.chunks(BEAT_AT_ONCE) {
            match inner.remote.extend(leases, inner.lease).await {
                Ok(lost) => {
                    for id in &lost {
                        log!(debug, job = %id, "the lease is lost");
                    }
                    if !lost.is_empty() {
                        inner.lock().buffer.lose(leases, &lost);
                    }
                }
                Err(error) => {
                    let (error, at) = (chain(&error), inner.remote.address());
                    log!(warn, error, at, "leases were not prolonged");
                    all = false;
                }
            }
        }
        if all {
            inner.lock().buffer.prolong(came, asked + inner.lease);
        }
    }
}
