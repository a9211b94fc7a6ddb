use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::Status;

const CONNECTIONS: &str = "db_client_connections";
const MAX: &str = "db_client_connections_max";
const IDLE_MIN: &str = "db_client_connections_idle_min";
const OVERFLOW: &str = "db_client_connections_overflow";
const PENDING: &str = "db_client_connections_pending_requests";
const TIMEOUTS: &str = "db_client_connections_timeouts_total";
const LEAKS: &str = "db_client_connections_leaks_total";
const WAIT: &str = "db_client_connections_wait_time_seconds";
const USE: &str = "db_client_connections_use_time_seconds";
const CREATE: &str = "db_client_connections_create_time_seconds";

/// The pool's metric handles, fetched once, and the counts behind them.
pub(crate) struct Metrics {
    idle: Gauge,
    used: Gauge,
    overflow: Gauge,
    pending: Gauge,
    timeouts: Counter,
    leaks: Counter,
    wait: Histogram,
    used_for: Histogram,
    create: Histogram,
    waiting: AtomicU32,
    publishing: Mutex<()>,
    stale: AtomicBool,
}

impl Metrics {
    pub(crate) fn new(pool: &str, base: u32, max: u32) -> Self {
        describe();
        let pool = pool.to_owned();
        gauge!(MAX, "pool" => pool.clone()).set(f64::from(max));
        gauge!(IDLE_MIN, "pool" => pool.clone()).set(f64::from(base));
        Self {
            idle: gauge!(CONNECTIONS, "pool" => pool.clone(), "state" => "idle"),
            used: gauge!(CONNECTIONS, "pool" => pool.clone(), "state" => "used"),
            overflow: gauge!(OVERFLOW, "pool" => pool.clone()),
            pending: gauge!(PENDING, "pool" => pool.clone()),
            timeouts: counter!(TIMEOUTS, "pool" => pool.clone()),
            leaks: counter!(LEAKS, "pool" => pool.clone()),
            wait: histogram!(WAIT, "pool" => pool.clone()),
            used_for: histogram!(USE, "pool" => pool.clone()),
            create: histogram!(CREATE, "pool" => pool),
            waiting: AtomicU32::new(0),
            publishing: Mutex::new(()),
            stale: AtomicBool::new(false),
        }
    }

    /// Counts a caller as waiting until the guard is dropped, however its acquire ends.
    pub(crate) fn pending(&self) -> Pending<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.pending.increment(1.0);
        Pending(self)
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.wait.record(time);
    }

    pub(crate) fn used(&self, time: Duration) {
        self.used_for.record(time);
    }

    pub(crate) fn created(&self, time: Duration) {
        self.create.record(time);
    }

    pub(crate) fn timed_out(&self) {
        self.timeouts.increment(1);
    }

    pub(crate) fn leaked(&self) {
        self.leaks.increment(1);
    }

    /// Sets the gauges of connections to what `read` returns.
    ///
    /// Of many at once only one publishes, and it reads again if another came meanwhile. So a
    /// value that was read earlier never overwrites a later one, and nobody waits.
    pub(crate) fn publish(&self, read: impl Fn() -> Status) {
        self.stale.store(true, Ordering::SeqCst);
        while self.stale.load(Ordering::SeqCst) {
            let Ok(_publishing) = self.publishing.try_lock() else {
                return;
            };
            self.stale.store(false, Ordering::SeqCst);
            let status = read();
            self.idle.set(f64::from(status.idle));
            self.used.set(f64::from(status.in_use));
            self.overflow.set(f64::from(status.overflow));
        }
    }
}

/// One waiting caller.
pub(crate) struct Pending<'a>(&'a Metrics);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.pending.decrement(1.0);
    }
}

fn describe() {
    describe_gauge!(
        CONNECTIONS,
        Unit::Count,
        "Connections by state, idle or used"
    );
    describe_gauge!(MAX, Unit::Count, "The most connections that the pool opens");
    describe_gauge!(
        IDLE_MIN,
        Unit::Count,
        "The connections that the pool keeps open"
    );
    describe_gauge!(
        OVERFLOW,
        Unit::Count,
        "Connections above those that the pool keeps open"
    );
    describe_gauge!(PENDING, Unit::Count, "Callers that wait for a connection");
    describe_counter!(
        TIMEOUTS,
        Unit::Count,
        "Acquires that gave up after acquire_timeout"
    );
    describe_counter!(
        LEAKS,
        Unit::Count,
        "Connections that were held for longer than leak_detection_threshold"
    );
    describe_histogram!(
        WAIT,
        Unit::Seconds,
        "Time from asking for a connection to having it"
    );
    describe_histogram!(
        USE,
        Unit::Seconds,
        "Time from having a connection to giving it back"
    );
    describe_histogram!(
        CREATE,
        Unit::Seconds,
        "Time to open a connection, after_connect included"
    );
}
