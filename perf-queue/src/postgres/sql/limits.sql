-- Slots are this far apart: rounded up, so that `quota` of them fill the period.
CREATE FUNCTION {schema}.apart(quota int, period bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT (period + quota - 1) / quota $$;

-- The latest that the grant can have been which was `i` places before the last: as it was noted; or
-- as the pace of a limit that holds `since` then lets it be.
CREATE FUNCTION {schema}.past(
    i bigint, last bigint, slot bigint, log bigint[], gap bigint, since bigint
) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT least(
        last, log[cardinality(log) - i], greatest(slot - (i + 1)::numeric * gap, since)::bigint
    )
$$;

-- From when on a limiter that knows of no grants may take over: whatever it grants at its pace, each of
-- these grants is so late that the one `quota` places back, if of before, has left the period. With
-- large quotas in steps of as many grants as there are in a thousandth.
CREATE FUNCTION {schema}.free_at(
    last bigint, slot bigint, log bigint[], gap bigint, since bigint,
    quota int, period bigint, burst int
) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT max({schema}.past(g.i, last, slot, log, gap, since) + period
        - greatest(0, quota - least(g.i + s.step - 1, quota - 1) - burst)
            * {schema}.apart(quota, period))
    FROM (SELECT greatest(1, quota / 1000)::bigint AS step) s
    CROSS JOIN LATERAL generate_series(0, quota::bigint - 1, s.step) AS g(i)
$$;

-- A limiter under a new limit. What was granted before counts, as far as it is known, and else as
-- late as it can have been, so that the new limit holds in every window. Where there was no limit,
-- `unknown` is when the last grant was.
CREATE FUNCTION {schema}.changed(
    INOUT slot bigint, INOUT log bigint[], quota int, period bigint, since bigint,
    new_quota int, new_period bigint, new_burst int, unknown bigint, t bigint
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    old_slot bigint := slot;
    old_log bigint[] := log;
    gap bigint := {schema}.apart(quota, period);
    new_gap bigint := {schema}.apart(new_quota, new_period);
    last bigint;
BEGIN
    slot := 0;
    log := '{}';
    IF quota IS NULL THEN
        last := unknown;
        old_log := '{}';
    ELSE
        last := coalesce(
            old_log[cardinality(old_log)], CASE WHEN old_slot > 0 THEN old_slot - gap END
        );
    END IF;
    IF new_quota IS NULL OR last IS NULL THEN
        RETURN;
    END IF;
    IF quota IS NULL THEN
        -- Any number of them.
        gap := 0;
        old_slot := last;
    END IF;
    IF new_burst > 1 AND new_quota <= 10000 THEN
        log := array(
            SELECT p.at FROM generate_series(new_quota::bigint - 1, 0, -1) AS g(i)
            CROSS JOIN LATERAL (
                SELECT {schema}.past(g.i, last, old_slot, old_log, gap, since) AS at OFFSET 0
            ) p WHERE p.at > t - new_period ORDER BY g.i DESC
        );
        slot := least(old_slot - gap, last + (new_burst - 1) * new_gap) + new_gap;
    ELSE
        slot := greatest(
            last + new_gap,
            {schema}.free_at(last, old_slot, old_log, gap, since, new_quota, new_period, 1)
        ) + (new_burst - 1) * new_gap;
    END IF;
END $$;

-- The first slot of a key that is not known: since a limit for keys changed, it may have had grants.
CREATE FUNCTION {schema}.first_slot(r {schema}.queues, t bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN r.key_quota IS NULL OR r.key_hold <= t THEN 0
        ELSE r.key_hold + (r.key_burst - 1) * {schema}.apart(r.key_quota, r.key_period)
    END
$$;

-- When a job of the queue was last granted, or a later time; null if none ever was.
CREATE FUNCTION {schema}.last_grant(q int) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT nullif(greatest(
        (SELECT max(c.last) FROM {schema}.counts c WHERE c.queue = q),
        (SELECT max(l.at) FROM {schema}.leases l WHERE l.queue = q)
    ), 0)
$$;

-- When a limiter lets the next job start. Without a burst, slots that are apart keep every window;
-- with one, what keeps it is that the grant `quota` places back has left the period.
CREATE FUNCTION {schema}.opens(
    hold bigint, slot bigint, log bigint[], quota int, period bigint, burst int
) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN quota IS NULL THEN hold
        WHEN burst <= 1 THEN greatest(hold, slot, log[cardinality(log)])
        ELSE greatest(
            hold,
            slot - (burst - 1) * {schema}.apart(quota, period),
            log[cardinality(log)],
            CASE WHEN cardinality(log) >= quota THEN log[cardinality(log) - quota + 1] + period END
        )
    END
$$;

-- The log of a limiter after another grant: no longer than it takes to keep the windows.
CREATE FUNCTION {schema}.logged(log bigint[], grant_at bigint, quota int, burst int)
RETURNS bigint[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN burst <= 1 THEN '{}'
        ELSE log[greatest(1, cardinality(log) - quota + 2):] || grant_at
    END
$$;

-- The last grant of a key that has a limit of its own, or a later time; null if it had none.
CREATE FUNCTION {schema}.granted(slot bigint, log bigint[], rate bigint[])
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(
        log[cardinality(log)],
        CASE WHEN slot > 0 THEN slot - {schema}.apart(rate[1]::int, rate[2]) END
    )
$$;

-- The key under a limit of its own that is another than so far, or under the common one, where `rate`
-- is null. What was granted before has to leave the new period, so that its windows hold.
CREATE FUNCTION {schema}.rated(
    k {schema}.keys, new_rate bigint[], key_quota int, key_period bigint,
    OUT hold bigint, OUT slot bigint, OUT log bigint[]
) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    common bigint[] := CASE WHEN key_quota IS NOT NULL THEN ARRAY[key_quota, key_period, 1] END;
    next bigint[] := coalesce(new_rate, common);
    last bigint;
BEGIN
    hold := k.hold;
    slot := k.slot;
    log := '{}';
    IF coalesce(k.rate, common) IS NULL OR next IS NULL THEN
        RETURN;
    END IF;
    last := {schema}.granted(k.slot, k.log, coalesce(k.rate, common));
    IF last IS NOT NULL THEN
        hold := greatest(hold, last + next[2]);
        slot := last + {schema}.apart(next[1]::int, next[2]);
    END IF;
END $$;

-- Jobs that were enqueued have brought these limits for their keys; the last one of a key counts.
CREATE FUNCTION {schema}.bring_rates(r {schema}.queues, whose bytea[], brought text[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH last AS (
        SELECT u.key, (array_agg(u.rate ORDER BY u.i DESC))[1]::bigint[] AS rate
        FROM unnest(whose, brought) WITH ORDINALITY AS u(key, rate, i)
        WHERE u.rate IS NOT NULL GROUP BY u.key
    ), changed AS (
        SELECT o.tid, l.rate, c.* FROM last l
        CROSS JOIN LATERAL (
            SELECT p.ctid AS tid, rated(p, l.rate, r.key_quota, r.key_period) AS new FROM keys p
            WHERE p.queue = r.queue AND p.key = l.key AND p.rate IS DISTINCT FROM l.rate OFFSET 0
        ) o CROSS JOIN LATERAL (SELECT (o.new).*) c
    ), done AS (
        UPDATE keys k SET rate = c.rate, hold = c.hold, slot = c.slot, log = c.log
        FROM changed c WHERE k.ctid = c.tid
    )
    INSERT INTO keys (queue, key, rate)
    SELECT r.queue, l.key, l.rate FROM last l
    WHERE EXISTS (SELECT FROM jobs j WHERE j.queue = r.queue AND j.key = l.key AND j.placed AND j.token = 0)
    ON CONFLICT (queue, key) DO NOTHING;
END $$;

-- Keys that were forgotten meanwhile, and so have lost their limits, get that of their first job.
CREATE FUNCTION {schema}.find_rates(r {schema}.queues, touched bytea[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE keys k SET rate = f.rate, hold = c.hold, slot = c.slot, log = c.log
    FROM (SELECT DISTINCT a.key FROM unnest(touched) AS a(key)) u
    CROSS JOIN LATERAL (
        SELECT o.ctid AS tid, o AS whole FROM keys o
        WHERE o.queue = r.queue AND o.key = u.key AND o.rate IS NULL OFFSET 0
    ) o CROSS JOIN LATERAL (
        SELECT j.rate FROM jobs j
        WHERE j.queue = r.queue AND j.key = u.key AND j.placed AND j.token = 0
            AND j.enqueued > r.own_since
        ORDER BY j.rank, j.seq LIMIT 1
    ) f CROSS JOIN LATERAL rated(o.whole, f.rate, r.key_quota, r.key_period) c
    WHERE k.ctid = o.tid AND f.rate IS NOT NULL;
END $$;

-- Slots of the queue for jobs that may start at `ats`, which ascend; for as many as there are until
-- `horizon`.
CREATE FUNCTION {schema}.slots(INOUT r {schema}.queues, ats bigint[], horizon bigint, OUT starts bigint[])
LANGUAGE plpgsql AS $$
DECLARE
    slot bigint := r.slot;
    log bigint[] := r.log;
    gap bigint := coalesce(apart(r.quota, r.period), 0);
    bursts boolean := coalesce(r.burst > 1, false);
    at bigint;
BEGIN
    starts := '{}';
    FOREACH at IN ARRAY ats LOOP
        IF bursts THEN
            at := greatest(at, opens(r.hold, slot, log, r.quota, r.period, r.burst));
        ELSIF r.quota IS NOT NULL THEN
            at := greatest(at, r.hold, slot);
        ELSE
            at := greatest(at, r.hold);
        END IF;
        EXIT WHEN at > horizon;
        starts := array_append(starts, at);
        slot := greatest(slot, at) + gap;
        IF bursts THEN
            log := logged(log, at, r.quota, r.burst);
        END IF;
    END LOOP;
    IF r.quota IS NOT NULL THEN
        -- A burst that was allowed before does not count any more, except for its last grant.
        r.log := CASE WHEN bursts THEN log ELSE '{}' END;
        r.slot := slot;
    END IF;
END $$;

-- Puts keys where they belong after something about them has changed. Those that may start until
-- `horizon` go into the ring. What is as good as new is forgotten.
CREATE FUNCTION {schema}.place(INOUT r {schema}.queues, t bigint, horizon bigint, touched bytea[])
LANGUAGE plpgsql AS $$
DECLARE
    held bigint;
BEGIN
    INSERT INTO keys (queue, key, slot)
    SELECT r.queue, u.key, first_slot(r, t) FROM unnest(touched) AS u(key)
    WHERE EXISTS (SELECT FROM jobs j WHERE j.queue = r.queue AND j.key = u.key AND j.placed AND j.token = 0)
    ON CONFLICT (queue, key) DO NOTHING;
    IF r.own THEN
        PERFORM find_rates(r, touched);
    END IF;
    WITH seen AS (
        SELECT k.tid, k.key, k.place AS old_place, k.open_at AS old_open,
            CASE
                WHEN k.rate IS NULL
                    THEN opens(k.hold, k.slot, k.log, r.key_quota, r.key_period, r.key_burst)
                ELSE opens(k.hold, k.slot, k.log, k.rate[1]::int, k.rate[2], k.rate[3]::int)
            END AS open_at,
            CASE
                -- Its next limit has to know of the last grants.
                WHEN k.rate IS NOT NULL THEN greatest(k.hold, k.slot, granted(k.slot, k.log, k.rate) + k.rate[2])
                WHEN r.key_quota IS NULL THEN k.hold
                ELSE greatest(k.hold, k.slot, k.log[cardinality(k.log)] + r.key_period)
            END AS fresh_at,
            coalesce(k.in_flight >= r.concurrency, false) AS full_up,
            r.concurrency IS NOT NULL AND k.in_flight > 0 AS busy,
            EXISTS (
                SELECT FROM jobs j
                WHERE j.queue = r.queue AND j.key = k.key AND j.placed AND j.token = 0
            ) AS waiting
        FROM (
            SELECT u.key, min(u.i) AS i FROM unnest(touched) WITH ORDINALITY AS u(key, i)
            GROUP BY u.key ORDER BY min(u.i)
        ) u
        -- Here as elsewhere `OFFSET 0` makes it one look-up a key. The planner, which takes the table
        -- for empty, would else go through all keys of the queue.
        CROSS JOIN LATERAL (
            SELECT o.*, o.ctid AS tid FROM keys o WHERE o.queue = r.queue AND o.key = u.key OFFSET 0
        ) k
        ORDER BY u.i
    ), settled AS (
        SELECT s.*, CASE
            WHEN s.waiting AND s.full_up THEN 3
            WHEN s.waiting AND s.open_at > horizon THEN 2
            WHEN s.waiting THEN 1
            WHEN s.busy THEN 0
            WHEN s.fresh_at > t THEN 4
            ELSE 5
        END AS new_place
        FROM seen s
    ), forgotten AS (
        DELETE FROM keys k USING settled s
        WHERE k.ctid = s.tid AND s.new_place = 5
    ), moved AS (
        UPDATE keys k SET
            place = s.new_place,
            open_at = CASE WHEN s.new_place = 4 THEN s.fresh_at ELSE s.open_at END,
            turn = CASE
                WHEN s.new_place = 1 AND s.old_place <> 1 THEN nextval('numbers') ELSE k.turn
            END
        FROM settled s
        WHERE k.ctid = s.tid AND s.new_place <> 5
            AND (s.new_place <> s.old_place OR s.open_at <> s.old_open)
    )
    SELECT count(*) INTO held FROM settled s WHERE s.new_place = 2 AND s.old_place <> 2;
    r.limited_key := r.limited_key + held;
END $$;
