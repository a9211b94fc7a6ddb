-- Leases jobs without a key.
CREATE FUNCTION {schema}.claim_straight(
    INOUT r {schema}.queues, head bigint, t bigint, horizon bigint, want int, lease bigint, number bigint,
    OUT ids bytea[], OUT starts bigint[], OUT stopped boolean,
    OUT payloads bytea[], OUT traces text[], OUT attempts int[],
    OUT errors text[], OUT ages bigint[], OUT waits bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    n int := want;
    before {schema}.queues := r;
    s record;
    held boolean := r.quota IS NOT NULL OR r.hold > t;
    tids tid[];
BEGIN
    ids := '{}';
    starts := '{}';
    stopped := false;
    IF held THEN
        SELECT * INTO s FROM slots(before, array_fill(t, ARRAY[want]), horizon);
        r := s.r;
        starts := s.starts;
        n := cardinality(starts);
        stopped := n < want;
    END IF;
    IF n = 0 THEN
        PERFORM FROM jobs j
        WHERE j.queue = r.queue AND j.key = '' AND j.placed AND j.token = 0 AND j.rank < 0 LIMIT 1;
        IF NOT FOUND THEN
            PERFORM FROM jobs j
            WHERE j.queue = r.queue AND j.key = '' AND j.placed AND j.token = 0
                AND (j.rank, j.seq) >= (0::smallint, head) LIMIT 1;
        END IF;
        stopped := FOUND;
        r := before;
        RETURN;
    END IF;
    tids := array(
        SELECT o.ctid FROM jobs o
        WHERE o.queue = r.queue AND o.key = '' AND o.placed AND o.token = 0 AND o.rank < 0
        ORDER BY o.rank, o.seq LIMIT n FOR UPDATE SKIP LOCKED
    );
    IF cardinality(tids) < n THEN
        tids := tids || array(
            SELECT o.ctid FROM jobs o
            WHERE o.queue = r.queue AND o.key = '' AND o.placed AND o.token = 0
                AND (o.rank, o.seq) >= (0::smallint, head)
            ORDER BY o.rank, o.seq LIMIT n - cardinality(tids) FOR UPDATE SKIP LOCKED
        );
    END IF;
    WITH taken AS (
        -- All at once, where a join would look each of them up for itself.
        UPDATE jobs j SET token = number, until = t + lease WHERE j.ctid = ANY (tids)
        RETURNING j.*
    ), sorted AS (
        SELECT * FROM taken c ORDER BY c.rank, c.seq
    )
    SELECT coalesce(array_agg(c.id), '{}'), array_agg(c.payload),
        array_agg(c.trace), array_agg(c.attempt), array_agg(array_to_json(c.errors)::text),
        array_agg(greatest(0, t - c.enqueued)), array_agg(greatest(0, t - c.since))
    INTO ids, payloads, traces, attempts, errors, ages, waits FROM sorted c;
    IF cardinality(ids) < n AND held THEN
        stopped := false;
        SELECT * INTO s FROM slots(before, array_fill(t, ARRAY[cardinality(ids)]), horizon);
        r := s.r;
        starts := s.starts;
    ELSIF NOT held THEN
        starts := array_fill(t, ARRAY[cardinality(ids)]);
    END IF;
    IF held THEN
        r.limited_queue := r.limited_queue + (SELECT count(*) FROM unnest(starts) a WHERE a > t);
    END IF;
END $$;

-- Notes where the jobs of priority 0 without a key begin. A job with a lower number than the first that waits
-- can only be one of a transaction that is under way, since each of them has its own number before it draws
-- those of its jobs, and what comes back gets another rank or number. So once they all have ended, and
-- nothing waits before what was the first, nothing ever will. Under way are those with an id up to `mine`, which
-- this transaction got after it had drawn `floor`: later ones draw higher numbers. The snapshot's `xmax` would
-- not do, since those from it on may have begun, too.
CREATE FUNCTION {schema}.look_ahead(h {schema}.heads, floor bigint, mine xid8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first record;
BEGIN
    IF pg_snapshot_xmin(pg_current_snapshot()) <= h.since
        -- Else these are the rows of another server.
        AND pg_snapshot_xmax(pg_current_snapshot()) >= h.since
    THEN
        RETURN;
    END IF;
    SELECT pg_current_snapshot() AS seen, (
        SELECT o.seq FROM jobs o
        WHERE o.queue = h.queue AND o.key = '' AND o.placed AND o.token = 0 AND o.rank = 0 AND o.seq >= h.seq
        ORDER BY o.seq LIMIT 1
    ) AS seq INTO first;
    PERFORM FROM heads o WHERE o.queue = h.queue AND o.since = h.since FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN
        UPDATE heads o SET
            seq = CASE
                WHEN coalesce(first.seq >= h.next, true) AND pg_snapshot_xmin(first.seen) > h.since THEN h.next
                ELSE h.seq
            END,
            -- The latter where none waits.
            next = least(first.seq, floor),
            since = mine
        WHERE o.queue = h.queue;
    END IF;
END $$;

-- The sequence gives lower numbers than it has given, as after a move to another server that left it behind.
CREATE FUNCTION {schema}.look_back(q int, number bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE queues r SET ended = 0, floor = 0, arrived = 0, ring = 0
    WHERE r.queue = q AND greatest(r.floor, r.ring) > number;
    IF FOUND THEN
        -- Turns that were given before would come after all that are given from now on.
        UPDATE keys k SET head = 0, turn = 0 WHERE k.queue = q AND (k.head > 0 OR k.turn > 0);
    END IF;
    UPDATE heads h SET seq = 0, next = 0, since = '0' WHERE h.queue = q AND h.next > number;
END $$;

-- Notes which numbers are those of transactions that are over, for the heads of keys. As with `look_ahead`, this
-- transaction drew `floor` before it got its id, `mine`, so that those with a later one draw higher numbers.
-- An exchange that has the queue's row to itself sees all that such transactions have left, so what it has seen
-- of the jobs below `ended` is all that there will be: what comes back gets another rank or number.
CREATE FUNCTION {schema}.note_ended(INOUT r {schema}.queues, floor bigint, mine xid8) LANGUAGE plpgsql AS $$
DECLARE
    seen CONSTANT pg_snapshot := pg_current_snapshot();
BEGIN
    IF pg_snapshot_xmin(seen) > r.floor_by THEN
        r.ended := r.floor;
    ELSIF pg_snapshot_xmax(seen) >= r.floor_by THEN
        RETURN;
    END IF;
    -- Not so often that it costs. Where `mine` is lower than what was noted, it is of another server.
    IF floor > r.floor + 1000 THEN
        r.floor := floor;
        r.floor_by := mine;
    END IF;
END $$;

-- Leases the first jobs of keys in the ring, by turns. With a limit for keys a round gives each key
-- one job, since its next slot depends on the slot that the queue gave to the one before.
CREATE FUNCTION {schema}.claim_keyed(
    INOUT r {schema}.queues, t bigint, horizon bigint, want int, lease bigint, number bigint,
    OUT ids bytea[], OUT starts bigint[], OUT stopped boolean
) LANGUAGE plpgsql AS $$
DECLARE
    left_over int := want;
    share int;
    ring tid[];
    ring_keys bytea[];
    first_turn bigint;
    job_ids bytea[];
    job_tids tid[];
    -- The key of each job that was looked at; and, for those in the ring, whether jobs wait then.
    looked_at tid[];
    waits boolean[];
    job_seqs bigint[];
    ats bigint[];
    slots bigint[];
    -- Whether nothing but its jobs says where a key belongs.
    plain CONSTANT boolean := r.key_quota IS NULL AND r.concurrency IS NULL AND NOT r.own;
    n int;
    s record;
BEGIN
    ids := '{}';
    starts := '{}';
    stopped := false;
    FOR round IN 1..64 LOOP
        EXIT WHEN left_over <= 0;
        SELECT array_agg(o.tid ORDER BY o.turn), array_agg(o.key ORDER BY o.turn), min(o.turn)
        INTO ring, ring_keys, first_turn FROM (
            SELECT k.ctid AS tid, k.key, k.turn FROM keys k WHERE k.queue = r.queue AND k.place = 1 AND k.turn >= r.ring
            ORDER BY k.turn LIMIT left_over
        ) o;
        -- Turns are given by exchanges, one at a time: what comes into the ring later has a later one than this
        -- exchange has drawn, which may be lower than those that are there, where numbers have begun again. Not
        -- noted each time, since that writes to the queue's row.
        first_turn := least(first_turn, number);
        IF first_turn > r.ring + 1000 THEN
            r.ring := first_turn;
        END IF;
        EXIT WHEN ring IS NULL;
        share := CASE
            WHEN r.key_quota IS NOT NULL OR r.own THEN 1
            ELSE (left_over + cardinality(ring) - 1) / cardinality(ring)
        END;
        WITH heads AS (
            SELECT j.id, u.tid, k.may, greatest(t, k.open_at) AS at, u.turn, CASE WHEN j.rank = 0 THEN j.seq END AS seq,
                row_number() OVER (PARTITION BY u.turn ORDER BY j.rank, j.seq) AS nth
            FROM unnest(ring) WITH ORDINALITY AS u(tid, turn)
            CROSS JOIN LATERAL (
                SELECT o.*, least(share, r.concurrency - o.in_flight) AS may FROM keys o WHERE o.ctid = u.tid OFFSET 0
            ) k
            -- One more shows whether jobs wait then.
            CROSS JOIN LATERAL (
                SELECT * FROM (
                    (SELECT o.id, o.rank, o.seq FROM jobs o
                    WHERE o.queue = r.queue AND o.key = k.key AND o.placed AND o.token = 0 AND o.rank < 0
                    ORDER BY o.rank, o.seq LIMIT k.may + 1)
                    UNION ALL
                    (SELECT o.id, o.rank, o.seq FROM jobs o
                    WHERE o.queue = r.queue AND o.key = k.key AND o.placed AND o.token = 0
                        AND (o.rank, o.seq) >= (0::smallint, k.head)
                    ORDER BY o.rank, o.seq LIMIT k.may + 1)
                ) o
                ORDER BY o.rank, o.seq LIMIT k.may + 1
            ) j
            WHERE k.open_at <= horizon
        ), first AS (
            SELECT h.*, row_number() OVER (ORDER BY h.at, h.nth, h.turn) AS i FROM heads h
            WHERE h.nth <= h.may
            ORDER BY h.at, h.nth, h.turn LIMIT left_over
        )
        SELECT coalesce(array_agg(f.id ORDER BY f.i), '{}'), array_agg(f.tid ORDER BY f.i),
            coalesce(array_agg(f.at ORDER BY f.i), '{}'), array_agg(f.seq ORDER BY f.i),
            array(SELECT h.tid FROM heads h)
        INTO job_ids, job_tids, ats, job_seqs, looked_at FROM first f;
        IF r.quota IS NOT NULL OR r.hold > t THEN
            SELECT * INTO s FROM slots(r, ats, horizon);
            r := s.r;
            slots := s.starts;
            r.limited_queue := r.limited_queue
                + (SELECT count(*) FROM unnest(slots, ats) AS a(slot, at) WHERE a.slot > a.at);
        ELSE
            slots := ats;
        END IF;
        n := cardinality(slots);
        stopped := n < cardinality(job_ids);
        job_ids := job_ids[1:n];
        job_tids := job_tids[1:n];
        job_seqs := job_seqs[1:n];
        UPDATE jobs j SET token = number, until = t + lease WHERE j.id = ANY (job_ids);
        WITH went AS (UPDATE keys k SET
            turn = nextval('numbers'),
            place = CASE WHEN plain AND NOT g.waits THEN 4 ELSE k.place END,
            open_at = CASE WHEN plain AND NOT g.waits THEN greatest(k.hold, t + kept()) ELSE k.open_at END,
            in_flight = CASE WHEN r.concurrency IS NULL THEN 0 ELSE k.in_flight + g.n END,
            slot = CASE
                WHEN k.rate IS NOT NULL
                    THEN greatest(k.slot, g.at) + apart(k.rate[1]::int, k.rate[2])
                WHEN r.key_quota IS NULL THEN k.slot
                ELSE greatest(k.slot, g.at) + apart(r.key_quota, r.key_period)
            END,
            last = greatest(k.last, g.at),
            log = CASE
                WHEN k.rate IS NOT NULL THEN logged(k.log, g.at, k.rate[1]::int, k.rate[3] > 1)
                WHEN r.key_quota IS NULL THEN k.log
                ELSE logged(k.log, g.at, r.key_quota, r.key_burst > 1 OR t < r.key_until)
            END,
            -- None of its jobs of the priority 0 waits before the last of these.
            head = CASE WHEN g.seq IS NULL THEN k.head ELSE greatest(k.head, least(r.ended, g.seq + 1)) END
        FROM (
            SELECT a.tid, sum(a.got)::int AS n, max(a.at) AS at, max(a.seq) AS seq, sum(a.seen) > sum(a.got) AS waits
            FROM (
                SELECT u.tid, u.at, u.seq, u.i, 1 AS got, 0 AS seen
                FROM unnest(job_tids, slots, job_seqs) WITH ORDINALITY AS u(tid, at, seq, i)
                UNION ALL SELECT u.tid, NULL, NULL, NULL, 0, 1 FROM unnest(looked_at) AS u(tid)
            ) a
            GROUP BY a.tid HAVING sum(a.got) > 0 ORDER BY min(a.i)
        ) g
        WHERE k.ctid = g.tid
        RETURNING k.ctid, g.tid AS was, g.waits)
        SELECT array_agg(coalesce(o.now, o.tid)), array_agg(o.waits) INTO ring, waits FROM (
            -- In any order: each is in the ring, and keeps the turn that it has.
            SELECT e.tid, (array_agg(e.now) FILTER (WHERE e.now IS NOT NULL))[1] AS now,
                -- What was looked at and did not go waits. Nothing is known of a key of which nothing was.
                coalesce(bool_or(e.waits) FILTER (WHERE e.now IS NOT NULL), bool_or(e.waits)) AS waits
            FROM (
                SELECT w.was AS tid, w.ctid AS now, w.waits FROM went w
                UNION ALL SELECT u.tid, NULL, true FROM unnest(looked_at) AS u(tid)
                UNION ALL SELECT u.tid, NULL, NULL FROM unnest(ring) AS u(tid)
            ) e GROUP BY e.tid
        ) o WHERE NOT (plain AND o.waits IS NOT NULL);
        IF r.key_quota IS NOT NULL OR r.own THEN
            r.limited_key := r.limited_key + (SELECT count(*) FROM unnest(ats[1:n]) a WHERE a > t);
        END IF;
        IF r.own THEN
            ring := find_rates(r, ring_keys);
            waits := NULL;
        END IF;
        IF cardinality(ring) > 0 THEN
            r := place(r, t, horizon, ring, waits, NULL);
        END IF;
        ids := ids || job_ids;
        starts := starts || slots;
        left_over := left_over - n;
        EXIT WHEN stopped;
    END LOOP;
END $$;
