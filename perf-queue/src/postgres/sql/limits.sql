-- Slots are this far apart: rounded up, so that `quota` of them fill the period.
CREATE FUNCTION {schema}.apart(quota int, period bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT (period + quota - 1) / quota $$;

-- A limiter under a new limit. What was granted before counts, so that the new limit holds in every window
-- that ends after `t`: as it was noted, or else as late as the old limit, if any, let it be, which was in
-- force for all grants after `since`. Where it began with a log of all in its period, that was at `began`.
CREATE FUNCTION {schema}.changed(
    INOUT slot bigint, INOUT log bigint[], last bigint, quota int, period bigint, burst int,
    since bigint, began bigint, new_quota int, new_period bigint, new_burst int, t bigint
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    -- As large a quota is counted grant by grant; a larger one begins when the last grant has left its
    -- period.
    counted CONSTANT int := 10000;
    gap bigint := {schema}.apart(quota, period);
    new_gap bigint := {schema}.apart(new_quota, new_period);
    n int := cardinality(log);
    i int := 0;
    times bigint[] := '{}';
    at bigint := last;
    sooner bigint;
BEGIN
    IF new_quota IS NULL OR last = 0 OR last + new_period <= t THEN
        slot := 0;
        log := '{}';
        RETURN;
    END IF;
    IF quota IS NULL OR new_quota > counted THEN
        slot := last + new_period + (new_burst - 1) * new_gap;
        log := '{}';
        RETURN;
    END IF;
    WHILE i < new_quota AND at + new_period > t LOOP
        i := i + 1;
        times[i] := at;
        IF i < n THEN
            at := log[n - i];
        ELSE
            sooner := CASE WHEN burst > 1 THEN at ELSE at - gap END;
            IF i >= quota THEN
                sooner := least(sooner, times[i - quota + 1] - period);
            END IF;
            sooner := greatest(sooner, since);
            -- A log that is not full begins with the limit, or where nothing was in the period.
            IF i = n AND n < quota AND began > 0 THEN
                sooner := least(sooner, greatest(at, began) - period);
            END IF;
            at := least(at, sooner);
        END IF;
    END LOOP;
    log := array(SELECT u.at FROM unnest(times) WITH ORDINALITY AS u(at, i) ORDER BY u.i DESC);
    -- Slots taken ahead at the old pace do not bind at the new.
    slot := least(slot - gap, last + (new_burst - 1) * new_gap) + new_gap;
END $$;

-- When a key may start that was granted nothing later than `unseen`, by a limit that was in force since, or
-- anything if it is null.
CREATE FUNCTION {schema}.free_at(
    unseen bigint, quota int, period bigint, burst int, since bigint,
    new_quota int, new_period bigint, t bigint
) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN unseen = 0 THEN 0
        WHEN quota IS NULL OR since + new_period > t THEN unseen + new_period
        -- Then each grant at the new pace is so late that the one `new_quota` places back has left the
        -- period. A burst is as if the limit were paced, and its grants later.
        ELSE least(unseen + new_period, p.newest + greatest(
            {schema}.apart(new_quota, new_period),
            new_period - (new_quota - 1) * {schema}.apart(quota, period)
        ))
    END
    FROM (
        SELECT unseen + CASE WHEN burst > 1 THEN period - {schema}.apart(quota, period) ELSE 0 END
    ) AS p(newest)
$$;

-- The first slot of a key that is not known: since a limit for keys changed, it may have had grants.
CREATE FUNCTION {schema}.first_slot(r {schema}.queues, t bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN r.key_quota IS NULL OR p.spent <= t OR r.key_unseen + r.key_period <= t THEN 0
        ELSE p.spent
    END
    -- Nor a burst then.
    FROM (SELECT r.key_hold + (r.key_burst - 1) * {schema}.apart(r.key_quota, r.key_period)) AS p(spent)
$$;

-- When a job of the queue was last granted, or a later time; null if none ever was.
CREATE FUNCTION {schema}.last_grant(q int) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT nullif(greatest(
        (SELECT max(c.last) FROM {schema}.counts c WHERE c.queue = q),
        (SELECT max(l.at) FROM {schema}.leases l WHERE l.queue = q)
    ), 0)
$$;

-- When a limiter lets the next job start. Slots that are apart keep every window, unless some may be ahead,
-- or grants by another limit are still in the period: then what keeps it is that the grant `quota` places
-- back, by the log, has left the period.
CREATE FUNCTION {schema}.opens(
    hold bigint, slot bigint, log bigint[], quota int, period bigint, burst int
) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN quota IS NULL THEN hold
        WHEN log = '{}' THEN greatest(hold, slot - (burst - 1) * {schema}.apart(quota, period))
        ELSE greatest(
            hold,
            slot - (burst - 1) * {schema}.apart(quota, period),
            log[cardinality(log)],
            CASE WHEN cardinality(log) >= quota THEN log[cardinality(log) - quota + 1] + period END
        )
    END
$$;

-- The log of a limiter after another grant: no longer than it takes to keep the windows.
CREATE FUNCTION {schema}.logged(log bigint[], grant_at bigint, quota int, noted boolean)
RETURNS bigint[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN noted THEN log[greatest(1, cardinality(log) - quota + 2):] || grant_at
        ELSE '{}'
    END
$$;

-- The key under a limit of its own that is another than so far, or under the common one, where `rate`
-- is null. What was granted before has to leave the new period, so that its windows hold.
CREATE FUNCTION {schema}.rated(
    k {schema}.keys, new_rate bigint[], r {schema}.queues,
    OUT hold bigint, OUT slot bigint, OUT log bigint[]
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    next bigint[] := coalesce(
        new_rate, CASE WHEN r.key_quota IS NOT NULL THEN ARRAY[r.key_quota, r.key_period, 1] END
    );
    last bigint := CASE WHEN k.last = 0 THEN r.own_after ELSE k.last END;
BEGIN
    hold := k.hold;
    slot := 0;
    log := '{}';
    IF next IS NOT NULL AND last > 0 THEN
        hold := greatest(hold, last + next[2]);
        slot := last + {schema}.apart(next[1]::int, next[2]);
    END IF;
END $$;

-- Jobs that were enqueued have brought these limits for their keys; the last one of a key counts.
CREATE FUNCTION {schema}.bring_rates(r {schema}.queues, whose bytea[], brought text[], firsts bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH last AS (
        SELECT u.key, least(r.ended, min(u.first)) AS head,
            (array_agg(u.rate ORDER BY u.i DESC) FILTER (WHERE u.rate IS NOT NULL))[1]::bigint[] AS rate
        FROM unnest(whose, brought, firsts) WITH ORDINALITY AS u(key, rate, first, i)
        GROUP BY u.key HAVING count(u.rate) > 0
    ), changed AS (
        SELECT o.tid, l.rate, c.* FROM last l
        CROSS JOIN LATERAL (
            SELECT p.ctid AS tid, p.rate, p AS whole FROM keys p
            WHERE p.queue = r.queue AND p.key = l.key ORDER BY p.turn DESC LIMIT 1
        ) o CROSS JOIN LATERAL rated(o.whole, l.rate, r) c
        WHERE o.rate IS DISTINCT FROM l.rate
    ), done AS (
        UPDATE keys k SET rate = c.rate, hold = c.hold, slot = c.slot, log = c.log
        FROM changed c WHERE k.ctid = c.tid
    )
    INSERT INTO keys (queue, key, rate, hold, head)
    SELECT r.queue, l.key, l.rate, CASE WHEN r.own_after > 0 THEN r.own_after + l.rate[2] ELSE 0 END, l.head
    FROM last l
    WHERE (
        SELECT true FROM keys k WHERE k.queue = r.queue AND k.key = l.key ORDER BY k.turn DESC LIMIT 1
    ) IS NULL AND coalesce((
        SELECT true FROM jobs j
        WHERE j.queue = r.queue AND j.key = l.key AND j.placed AND j.token = 0
            AND (j.rank, j.seq) >= (0::smallint, l.head) LIMIT 1
    ), (
        SELECT true FROM jobs j
        WHERE j.queue = r.queue AND j.key = l.key AND j.placed AND j.token = 0 AND j.rank < 0 LIMIT 1
    ), false);
END $$;

-- Keys that were forgotten meanwhile, and so have lost their limits, get that of their first job. Gives where
-- all of them are then.
CREATE FUNCTION {schema}.find_rates(r {schema}.queues, whose bytea[]) RETURNS tid[]
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE keys k SET rate = f.rate, hold = c.hold, slot = c.slot, log = c.log
    FROM unnest(whose) AS u(key)
    CROSS JOIN LATERAL (
        SELECT o.ctid AS tid, o.head, o.rate, o AS whole FROM keys o
        WHERE o.queue = r.queue AND o.key = u.key ORDER BY o.turn DESC LIMIT 1
    ) o CROSS JOIN LATERAL (
        SELECT e.rate FROM (
            (SELECT j.rate, j.rank, j.seq FROM jobs j
            WHERE j.queue = r.queue AND j.key = u.key AND j.placed AND j.token = 0
                AND j.enqueued > r.own_since AND j.rank < 0
            ORDER BY j.rank, j.seq LIMIT 1)
            UNION ALL
            (SELECT j.rate, j.rank, j.seq FROM jobs j
            WHERE j.queue = r.queue AND j.key = u.key AND j.placed AND j.token = 0
                AND j.enqueued > r.own_since AND (j.rank, j.seq) >= (0::smallint, o.head)
            ORDER BY j.rank, j.seq LIMIT 1)
        ) e ORDER BY e.rank, e.seq LIMIT 1
    ) f CROSS JOIN LATERAL rated(o.whole, f.rate, r) c
    WHERE k.ctid = o.tid AND o.rate IS NULL AND f.rate IS NOT NULL;
    RETURN array(
        SELECT k.tid FROM unnest(whose) WITH ORDINALITY AS u(key, i) CROSS JOIN LATERAL (
            SELECT o.ctid AS tid FROM keys o
            WHERE o.queue = r.queue AND o.key = u.key ORDER BY o.turn DESC LIMIT 1
        ) k ORDER BY u.i
    );
END $$;

-- Slots of the queue for jobs that may start at `ats`, which ascend; for as many as there are until
-- `horizon`.
CREATE FUNCTION {schema}.slots(INOUT r {schema}.queues, ats bigint[], horizon bigint, OUT starts bigint[])
LANGUAGE plpgsql AS $$
DECLARE
    slot bigint := r.slot;
    log bigint[] := r.log;
    gap bigint := coalesce(apart(r.quota, r.period), 0);
    noted boolean := coalesce(r.burst > 1 OR ats[1] < r.until, true);
    at bigint;
BEGIN
    starts := '{}';
    FOREACH at IN ARRAY ats LOOP
        IF noted THEN
            at := greatest(at, opens(r.hold, slot, log, r.quota, r.period, r.burst));
        ELSIF r.quota IS NOT NULL THEN
            at := greatest(at, r.hold, slot);
        ELSE
            at := greatest(at, r.hold);
        END IF;
        EXIT WHEN at > horizon;
        starts := array_append(starts, at);
        slot := greatest(slot, at) + gap;
        r.last := greatest(r.last, at);
        IF noted THEN
            log := logged(log, at, r.quota, true);
        END IF;
    END LOOP;
    IF r.quota IS NOT NULL THEN
        r.log := CASE WHEN noted THEN log ELSE '{}' END;
        r.slot := slot;
    END IF;
END $$;

-- Puts keys where they belong of which something was heard. One that is not known and has jobs that wait is added:
-- it has none with a number below that in `firsts` and below `ended`.
CREATE FUNCTION {schema}.touch(
    INOUT r {schema}.queues, t bigint, horizon bigint, touched bytea[], firsts bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    new_slot CONSTANT bigint := first_slot(r, t);
    new_open CONSTANT bigint := opens(0, new_slot, '{}', r.key_quota, r.key_period, r.key_burst);
    -- The limit of its own comes first.
    new_place CONSTANT smallint := CASE WHEN r.own THEN 0 WHEN new_open > horizon THEN 2 ELSE 1 END;
    names bytea[];
    tids tid[];
    turns bigint[];
    added bigint;
BEGIN
    WITH found AS MATERIALIZED (
        -- Turns are drawn in this order, whether or not the key was known.
        SELECT u.*, nextval('numbers') AS turn, k.tid, k.stays FROM (
            SELECT a.key, min(a.i) AS i, least(r.ended, min(a.first)) AS head
            FROM unnest(touched, firsts) WITH ORDINALITY AS a(key, first, i)
            GROUP BY a.key ORDER BY min(a.i)
        ) u LEFT JOIN LATERAL (
            -- In the ring it stays, whatever was enqueued.
            SELECT o.ctid AS tid, o.place = 1 AND o.hold <= o.open_at AS stays FROM keys o
            WHERE o.queue = r.queue AND o.key = u.key ORDER BY o.turn DESC LIMIT 1
        ) k ON true
    ), added AS (
        INSERT INTO keys (queue, key, slot, head, place, open_at, turn)
        SELECT r.queue, f.key, new_slot, f.head, new_place, new_open, f.turn FROM found f
        WHERE f.tid IS NULL AND coalesce((
            SELECT true FROM jobs j
            WHERE j.queue = r.queue AND j.key = f.key AND j.placed AND j.token = 0
                AND (j.rank, j.seq) >= (0::smallint, f.head) LIMIT 1
        ), (
            SELECT true FROM jobs j
            WHERE j.queue = r.queue AND j.key = f.key AND j.placed AND j.token = 0 AND j.rank < 0 LIMIT 1
        ), false)
        RETURNING 1
    ) SELECT array_agg(f.key ORDER BY f.i), array_agg(f.tid ORDER BY f.i) FILTER (WHERE NOT f.stays),
        array_agg(f.turn ORDER BY f.i) FILTER (WHERE NOT f.stays), (SELECT count(*) FROM added)
    INTO names, tids, turns, added FROM found f;
    IF r.own THEN
        tids := find_rates(r, names);
        turns := NULL;
    ELSIF new_place = 2 THEN
        r.limited_key := r.limited_key + added;
    END IF;
    IF cardinality(tids) > 0 THEN
        r := place(r, t, horizon, tids, NULL, turns);
    END IF;
END $$;

-- For how long a key is kept that has no jobs, in microseconds. One with a limit of its own is not: it would hold
-- for jobs that have none.
CREATE FUNCTION {schema}.kept() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 10000000::bigint $$;

-- Puts keys where they belong after something about them has changed. Those that may start until
-- `horizon` go into the ring. What is as good as new is forgotten after a while. `waits`: whether jobs wait, and
-- `turns`: what turns they get if they get any, as far as that is known.
CREATE FUNCTION {schema}.place(
    INOUT r {schema}.queues, t bigint, horizon bigint, tids tid[], waits boolean[], turns bigint[]
)
LANGUAGE plpgsql AS $$
DECLARE
    held bigint;
BEGIN
    WITH seen AS (
        SELECT k.tid, u.turn, k.place AS old_place, k.open_at AS old_open, k.rate IS NOT NULL AS rated,
            CASE
                WHEN k.rate IS NULL
                    THEN opens(k.hold, k.slot, k.log, r.key_quota, r.key_period, r.key_burst)
                ELSE opens(k.hold, k.slot, k.log, k.rate[1]::int, k.rate[2], k.rate[3]::int)
            END AS open_at,
            CASE
                -- Its next limit has to know of the last grants.
                WHEN k.rate IS NOT NULL THEN greatest(k.hold, k.slot, k.last + k.rate[2])
                WHEN r.key_quota IS NULL THEN k.hold
                ELSE greatest(k.hold, k.slot, k.last + r.key_period)
            END AS fresh_at,
            coalesce(k.in_flight >= r.concurrency, false) AS full_up,
            r.concurrency IS NOT NULL AND k.in_flight > 0 AS busy,
            coalesce(u.waits, (
                SELECT true FROM jobs j
                WHERE j.queue = r.queue AND j.key = k.key AND j.placed AND j.token = 0
                    AND (j.rank, j.seq) >= (0::smallint, k.head) LIMIT 1
            ), (
                SELECT true FROM jobs j
                WHERE j.queue = r.queue AND j.key = k.key AND j.placed AND j.token = 0 AND j.rank < 0 LIMIT 1
            ), false) AS waiting
        FROM unnest(tids, waits, turns) WITH ORDINALITY AS u(tid, waits, turn, i)
        -- Here as elsewhere `OFFSET 0` makes it one look-up a key. The planner, which takes the table
        -- for empty, would else go through all keys of the queue.
        CROSS JOIN LATERAL (SELECT o.*, o.ctid AS tid FROM keys o WHERE o.ctid = u.tid OFFSET 0) k
        ORDER BY u.i
    ), settled AS (
        SELECT n.*, CASE WHEN n.new_place = 4 THEN n.fade_at ELSE n.open_at END AS new_open FROM (
            SELECT s.*, CASE
                WHEN s.waiting AND s.full_up THEN 3
                WHEN s.waiting AND s.open_at > horizon THEN 2
                WHEN s.waiting THEN 1
                WHEN s.busy THEN 0
                WHEN s.fade_at > t THEN 4
                ELSE 5
            END AS new_place
            FROM (
                SELECT e.*, CASE
                    WHEN e.rated THEN e.fresh_at
                    WHEN e.old_place = 4 AND e.old_open >= e.fresh_at THEN e.old_open
                    ELSE greatest(e.fresh_at, t + kept())
                END AS fade_at
                FROM seen e
            ) s
        ) n
    ), forgotten AS (
        DELETE FROM keys k USING settled s
        WHERE k.ctid = s.tid AND s.new_place = 5
    ), moved AS (
        UPDATE keys k SET
            place = s.new_place,
            open_at = s.new_open,
            turn = CASE
                WHEN s.new_place = 1 AND s.old_place <> 1 THEN coalesce(s.turn, nextval('numbers')) ELSE k.turn
            END
        FROM settled s
        WHERE k.ctid = s.tid AND s.new_place <> 5
            AND (s.new_place <> s.old_place OR s.new_open <> s.old_open)
    )
    SELECT count(*) INTO held FROM settled s WHERE s.new_place = 2 AND s.old_place <> 2;
    r.limited_key := r.limited_key + held;
END $$;
