-- Times are microseconds since 1970 by the server's clock.

CREATE TABLE {schema}.migrations (version int PRIMARY KEY);

-- Order of enqueue, tokens and turns: later is larger.
CREATE SEQUENCE {schema}.numbers;

CREATE TABLE {schema}.queues (
    queue int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    channel text NOT NULL,
    -- The rules as they are in force, and those of the last builder that had any; then what follows
    -- from the former.
    rules text,
    built text,
    quota int,
    period bigint,
    burst int,
    key_quota int,
    key_period bigint,
    key_burst int,
    concurrency int,
    -- Whether a job ever brought a limit for its key, as far as an exchange has seen, and up to when such limits do not count any more,
    -- and the last grant before the first of them.
    own boolean NOT NULL DEFAULT false,
    own_since bigint NOT NULL DEFAULT 0,
    own_after bigint NOT NULL DEFAULT 0,
    -- After when all grants are by these limits, when they began to be, and until when grants by those
    -- before may be in the period.
    since bigint NOT NULL DEFAULT 0,
    began bigint NOT NULL DEFAULT 0,
    until bigint NOT NULL DEFAULT 0,
    key_since bigint NOT NULL DEFAULT 0,
    key_began bigint NOT NULL DEFAULT 0,
    key_until bigint NOT NULL DEFAULT 0,
    -- The latest grant that a key can have had when the limit became this one, if it is not known now, and
    -- when such a key may start.
    key_unseen bigint NOT NULL DEFAULT 0,
    key_hold bigint NOT NULL DEFAULT 0,
    paused boolean NOT NULL DEFAULT false,
    -- Whether an exchange has ever seen a job with a key. Enqueues do not say so here, since they
    -- would wait for exchanges: they leave an arrival.
    keyed boolean NOT NULL DEFAULT false,
    -- The queue's limiter: the next slot, the last grant, the last of them (where the slots alone do not keep
    -- the windows), and the penalty.
    slot bigint NOT NULL DEFAULT 0,
    last bigint NOT NULL DEFAULT 0,
    log bigint[] NOT NULL DEFAULT '{}',
    hold bigint NOT NULL DEFAULT 0,
    put_off boolean NOT NULL DEFAULT false,
    -- All transactions that drew a number below `ended` are over. It becomes `floor` once those with an id up
    -- to `floor_by` are.
    ended bigint NOT NULL DEFAULT 0,
    floor bigint NOT NULL DEFAULT 0,
    floor_by xid8 NOT NULL DEFAULT '0',
    -- From which number on exchanges look for arrivals, and from which turn on for keys in the ring: there is none
    -- before, nor will be. Else they would go through the entries of all that were, up to the last vacuum.
    arrived bigint NOT NULL DEFAULT 0,
    ring bigint NOT NULL DEFAULT 0,
    -- The same for keys that wait for a time: none for one before.
    passed bigint NOT NULL DEFAULT 0,
    limited_queue bigint NOT NULL DEFAULT 0,
    limited_key bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- Whether a process may wait to be notified. Apart from the queue's row, which exchanges lock.
CREATE TABLE {schema}.sleepers (
    queue int PRIMARY KEY,
    asleep boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

-- How many jobs there are: the sum of 16 rows, so that enqueues do not wait for each other, and of those
-- that were added where one of these was taken.
CREATE TABLE {schema}.counts (
    queue int NOT NULL,
    shard bigint NOT NULL,
    n bigint NOT NULL DEFAULT 0,
    -- Dead letters that were dropped for lack of room.
    dropped bigint NOT NULL DEFAULT 0,
    -- Jobs that are not leased any more were granted before.
    last bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, shard)
) WITH (fillfactor = 50);

-- A job is scheduled (`due` is when), or it has its place in the order of its key: then it is leased
-- (`token` is the number of the lease) or waits (`token` is 0). No index knows of the lease, and half
-- of a page is kept free, so that to lease a job writes to its page and nowhere else. A claim passes
-- by the jobs that are leased. Vacuum comes early, since every job is a dead row soon.
CREATE TABLE {schema}.jobs (
    id bytea PRIMARY KEY,
    seq bigint NOT NULL,
    due bigint,
    token bigint NOT NULL DEFAULT 0,
    until bigint NOT NULL DEFAULT 0,
    enqueued bigint NOT NULL,
    since bigint NOT NULL,
    queue int NOT NULL,
    attempt int NOT NULL DEFAULT 1,
    -- The negative priority; 1000 less for those that are first of their key.
    rank smallint NOT NULL,
    placed boolean NOT NULL,
    -- Empty without. One too long for an index is replaced by its hash.
    key bytea NOT NULL,
    long_key bytea,
    payload bytea NOT NULL,
    trace text NOT NULL,
    errors text[],
    -- The limit that it brought for its key: quota, period and burst.
    rate bigint[]
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX jobs_ready ON {schema}.jobs (queue, key, rank, seq) WHERE placed;
-- From which number on claims look for jobs of the priority 0 without a key: none before it waits, nor will.
-- Else they would go through the entries of all jobs that ended since the last vacuum. `next` is where the
-- first of them was, when no transaction with an id above `since` had drawn a number below it.
CREATE TABLE {schema}.heads (
    queue int PRIMARY KEY,
    seq bigint NOT NULL DEFAULT 0,
    next bigint NOT NULL DEFAULT 0,
    since xid8 NOT NULL DEFAULT '0'
) WITH (fillfactor = 50);

CREATE INDEX jobs_due ON {schema}.jobs (queue, due, seq) WHERE due IS NOT NULL;

-- What was leased at once, to find what nobody has ended in time. `until` is no later than the end of
-- any of these leases; `left_over` counts those that were neither ended nor taken away.
CREATE TABLE {schema}.leases (
    n bigint PRIMARY KEY,
    queue int NOT NULL,
    until bigint NOT NULL,
    left_over int NOT NULL,
    -- When the last of its jobs was to start.
    at bigint NOT NULL,
    ids bytea[] NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- To compress them would cost more than it saves.
ALTER TABLE {schema}.leases ALTER COLUMN ids SET STORAGE EXTERNAL;

CREATE INDEX leases_until ON {schema}.leases (queue, until);

-- Keys for which jobs were enqueued since an exchange last looked: rows are only added by enqueues
-- and only taken by exchanges, so neither waits for the other.
CREATE TABLE {schema}.arrivals (
    n bigint NOT NULL,
    queue int NOT NULL,
    key bytea NOT NULL,
    rate bigint[],
    -- No higher than the numbers of its jobs.
    first bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, n)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Keys, each in one place: 0 nothing ready, 1 in the ring, 2 waits for `open_at`, 3 as many of its
-- jobs run as may, 4 nothing ready and to be forgotten at `open_at`, which is so late that one that comes again
-- and again is found and not added each time, to walk by all that were removed. Written by exchanges only, one at
-- a time. A key without a row is as good as new. Whoever looks for one begins with the latest turn: the index
-- has an entry for each turn that a key had since the last vacuum, and there is one row at most.
CREATE TABLE {schema}.keys (
    queue int NOT NULL,
    key bytea NOT NULL,
    place smallint NOT NULL DEFAULT 0,
    in_flight int NOT NULL DEFAULT 0,
    turn bigint NOT NULL DEFAULT 0,
    open_at bigint NOT NULL DEFAULT 0,
    slot bigint NOT NULL DEFAULT 0,
    last bigint NOT NULL DEFAULT 0,
    log bigint[] NOT NULL DEFAULT '{}',
    hold bigint NOT NULL DEFAULT 0,
    -- Its own limit, instead of that of the rules.
    rate bigint[],
    -- From which number on claims look for its jobs of the priority 0: none before it waits, nor will.
    head bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, key, turn)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX keys_ring ON {schema}.keys (queue, turn) WHERE place = 1;
CREATE INDEX keys_timer ON {schema}.keys (queue, open_at) WHERE place = 2;
CREATE INDEX keys_parked ON {schema}.keys (queue) WHERE place = 3;
CREATE INDEX keys_fade ON {schema}.keys (queue, open_at) WHERE place = 4;

-- Unique names, and until when they are remembered.
CREATE TABLE {schema}.names (
    queue int NOT NULL,
    name bytea NOT NULL,
    id bytea NOT NULL,
    until bigint NOT NULL,
    PRIMARY KEY (queue, name)
);

CREATE INDEX names_until ON {schema}.names (queue, until);

CREATE TABLE {schema}.dead (
    id bytea PRIMARY KEY,
    queue int NOT NULL,
    n bigint NOT NULL,
    enqueued bigint NOT NULL,
    died bigint NOT NULL,
    attempts int NOT NULL,
    rank smallint NOT NULL,
    key bytea NOT NULL,
    long_key bytea,
    payload bytea NOT NULL,
    trace text NOT NULL,
    errors text[],
    -- The limit that it brought for its key: quota, period and burst.
    rate bigint[]
);

CREATE INDEX dead_n ON {schema}.dead (queue, n);

-- Jobs of transactions that have not committed yet: a row makes its jobs arrive at the commit.
CREATE TABLE {schema}.commits (
    n bigint PRIMARY KEY,
    queue int NOT NULL,
    ids bytea[] NOT NULL
);

-- A queue's time: the server's clock, which may be set back; then time goes on from where it was, or
-- whatever waits would wait for longer. `ahead` is by how much it has been set back since the queue began,
-- and `seen` the latest time that an exchange has noted, which is once a second at most: a smaller step
-- back may go unseen, and is waited out.
CREATE TABLE {schema}.clocks (
    queue int PRIMARY KEY,
    ahead bigint NOT NULL DEFAULT 0,
    seen bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE FUNCTION {schema}.micros() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

-- Not in SQL, whose functions are planned for each query that calls them.
CREATE FUNCTION {schema}.clock(q int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    c {schema}.clocks;
BEGIN
    SELECT * INTO c FROM {schema}.clocks o WHERE o.queue = q;
    RETURN greatest({schema}.micros() + c.ahead, c.seen);
END $$;
