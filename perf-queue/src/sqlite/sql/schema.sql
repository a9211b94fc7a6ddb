CREATE TABLE IF NOT EXISTS perf_queue (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- Of the tables, when this queue was last opened.
    version INTEGER NOT NULL,
    -- Whether whoever had it last has let go of it, and did not just end.
    clean INTEGER NOT NULL
);

-- AUTOINCREMENT, so that the number of a job that is gone is never given again: the numbers are the
-- order of enqueue, and a higher one than before is how jobs of other connections are noticed.
-- There is no further index: the jobs of a queue are read as a whole, and once.
CREATE TABLE IF NOT EXISTS perf_queue_job (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    queue INTEGER NOT NULL,
    id_hi INTEGER NOT NULL,
    id_lo INTEGER NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 1,
    started INTEGER NOT NULL DEFAULT 0,
    -- These three in milliseconds since 1970.
    enqueued INTEGER NOT NULL,
    -- Not to run before.
    due INTEGER,
    -- Its place in the order: that of a job enqueued then; by `seq` where there is none.
    place INTEGER,
    payload BLOB NOT NULL,
    trace TEXT,
    -- A list in JSON, the oldest first.
    errors TEXT
);

CREATE TABLE IF NOT EXISTS perf_queue_dead (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    queue INTEGER NOT NULL,
    id_hi INTEGER NOT NULL,
    id_lo INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    enqueued INTEGER NOT NULL,
    died INTEGER NOT NULL,
    payload BLOB NOT NULL,
    trace TEXT,
    errors TEXT
);

CREATE INDEX IF NOT EXISTS perf_queue_dead_of_queue ON perf_queue_dead (queue, seq);

CREATE TABLE IF NOT EXISTS perf_queue_unique (
    queue INTEGER NOT NULL,
    name TEXT NOT NULL,
    id_hi INTEGER NOT NULL,
    id_lo INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (queue, name)
) WITHOUT ROWID;

-- What was set while the queue ran, or is to outlive the process in another way.
CREATE TABLE IF NOT EXISTS perf_queue_state (
    queue INTEGER PRIMARY KEY,
    -- The limits in JSON.
    rules TEXT,
    paused INTEGER NOT NULL DEFAULT 0,
    -- Until when a penalty stops the queue, and when that was said, in milliseconds since 1970.
    hold INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0
);

-- What is known of the jobs that were started: none after `closed`, which is null from the first start of a
-- process until it says what it has started; and all that were after `changed` by the limits that are in
-- force, but unknown where that is null. In milliseconds since 1970.
CREATE TABLE IF NOT EXISTS perf_queue_past (
    queue INTEGER PRIMARY KEY,
    closed INTEGER,
    changed INTEGER,
    -- Whether keys had limits of their own, in the last process that has started a job.
    own INTEGER NOT NULL DEFAULT 0
);

-- Those two times once more, by a clock that nobody can set: in milliseconds since a start of the system, which
-- has an id. What was written by another version, or where there is no such clock, has no row.
CREATE TABLE IF NOT EXISTS perf_queue_clock (
    queue INTEGER NOT NULL,
    -- The same time as it is there.
    wall INTEGER NOT NULL,
    boot TEXT NOT NULL,
    up INTEGER NOT NULL,
    PRIMARY KEY (queue, wall)
) WITHOUT ROWID;

-- The keys that had jobs started of late, in JSON, as of that `closed`. Unknown where there is no such row.
CREATE TABLE IF NOT EXISTS perf_queue_keys (
    queue INTEGER PRIMARY KEY,
    closed INTEGER NOT NULL,
    keys BLOB NOT NULL
);

-- The limits of the last builder that had any, in JSON: a builder overrides only where it differs.
CREATE TABLE IF NOT EXISTS perf_queue_built (
    queue INTEGER PRIMARY KEY,
    rules TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS perf_queue_unique_until ON perf_queue_unique (until);
