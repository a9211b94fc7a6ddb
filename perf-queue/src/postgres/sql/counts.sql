-- How many jobs are where. With more than this many jobs nothing looks at all of them, as each
-- process asks every few seconds: then what has no count of its own is found by its first rows, and
-- beyond as many of them it is estimated.
CREATE FUNCTION {schema}.count_jobs(
    q int, OUT ready bigint, OUT scheduled bigint, OUT limited bigint, OUT in_flight bigint,
    OUT dead bigint, OUT oldest bigint, OUT paused boolean, OUT dropped bigint
) LANGUAGE plpgsql {set} AS $$
DECLARE
    at_most CONSTANT bigint := 10000;
    r {schema}.queues;
    t bigint := clock(q);
    late bigint;
    here bigint;
BEGIN
    SELECT * INTO r FROM queues WHERE queue = q;
    paused := r.paused;
    SELECT count(*) INTO dead FROM dead d WHERE d.queue = q;
    SELECT sum(c.dropped) INTO dropped FROM counts c WHERE c.queue = q;
    -- In one statement, so that both are of the same instant.
    SELECT (SELECT sum(n) FROM counts c WHERE c.queue = q),
        (SELECT coalesce(sum(l.left_over), 0) FROM leases l WHERE l.queue = q)
    INTO here, in_flight;
    IF here > at_most THEN
        SELECT c.ready, c.scheduled, c.oldest INTO ready, scheduled, oldest
        FROM count_many(q, t, greatest(0, here - in_flight), at_most) c;
    ELSE
        SELECT count(*) FILTER (WHERE j.token = 0), count(*) FILTER (WHERE j.token <> 0),
            t - min(j.since) FILTER (WHERE j.token = 0)
        INTO ready, in_flight, oldest FROM jobs j WHERE j.queue = q AND j.placed;
        SELECT count(*) FILTER (WHERE j.due > t), count(*) FILTER (WHERE j.due <= t),
            greatest(oldest, t - min(j.due) FILTER (WHERE j.due <= t))
        INTO scheduled, late, oldest FROM jobs j WHERE j.queue = q AND j.due IS NOT NULL;
        ready := ready + late;
    END IF;
    IF opens(r.hold, r.slot, r.log, r.quota, r.period, r.burst) > t THEN
        limited := ready;
    ELSIF r.keyed THEN
        limited := count_limited(q, t, ready, at_most);
    ELSE
        limited := 0;
    END IF;
    ready := ready - limited;
    IF oldest < 0 THEN
        oldest := 0;
    END IF;
END $$;

-- Of `waiting` jobs, how many are scheduled. The oldest is looked for at the head of the keys that
-- come next, those of the first keys and of none.
CREATE FUNCTION {schema}.count_many(
    q int, t bigint, waiting bigint, at_most bigint,
    OUT ready bigint, OUT scheduled bigint, OUT oldest bigint
) LANGUAGE plpgsql AS $$
DECLARE
    placed bigint;
BEGIN
    SELECT count(*) INTO scheduled FROM (
        SELECT FROM jobs j WHERE j.queue = q AND j.due > t LIMIT at_most
    ) j;
    IF scheduled = at_most THEN
        SELECT count(*) INTO placed FROM (
            SELECT FROM jobs j WHERE j.queue = q AND j.placed AND j.token = 0 LIMIT at_most
        ) j;
        IF placed < at_most THEN
            scheduled := greatest(scheduled, waiting - placed);
        ELSE
            SELECT greatest(scheduled, waiting * (1 - s.null_frac)) INTO scheduled
            FROM pg_stats s
            WHERE s.schemaname = current_schema() AND s.tablename = 'jobs' AND s.attname = 'due';
            scheduled := coalesce(scheduled, at_most);
        END IF;
    END IF;
    scheduled := least(scheduled, waiting);
    ready := waiting - scheduled;
    SELECT t - min(a.since) INTO oldest FROM (
        (SELECT j.due AS since FROM jobs j WHERE j.queue = q AND j.due BETWEEN 0 AND t
            ORDER BY j.due LIMIT 1)
        UNION ALL
        (SELECT h.since FROM (
            SELECT ''::bytea AS key, (SELECT o.seq FROM heads o WHERE o.queue = q) AS head
            UNION ALL (SELECT k.key, k.head FROM keys k WHERE k.queue = q AND k.place = 1 AND k.turn >= (
                SELECT r.ring FROM queues r WHERE r.queue = q
            ) ORDER BY k.turn LIMIT 1000)
            UNION ALL (SELECT k.key, k.head FROM keys k WHERE k.queue = q AND k.place = 2 ORDER BY k.open_at LIMIT 1000)
            UNION ALL (SELECT k.key, k.head FROM keys k WHERE k.queue = q AND k.place = 3 LIMIT 1000)
            UNION ALL (SELECT a.key, a.first FROM arrivals a WHERE a.queue = q AND a.n >= (
                SELECT r.arrived FROM queues r WHERE r.queue = q
            ) ORDER BY a.n LIMIT 1000)
        ) f CROSS JOIN LATERAL (
            SELECT e.since FROM (
                (SELECT j.since, j.rank, j.seq FROM jobs j
                WHERE j.queue = q AND j.key = f.key AND j.placed AND j.token = 0 AND j.rank < 0
                ORDER BY j.rank, j.seq LIMIT 1)
                UNION ALL
                (SELECT j.since, j.rank, j.seq FROM jobs j
                WHERE j.queue = q AND j.key = f.key AND j.placed AND j.token = 0
                    AND (j.rank, j.seq) >= (0::smallint, f.head)
                ORDER BY j.rank, j.seq LIMIT 1)
            ) e ORDER BY e.rank, e.seq LIMIT 1
        ) h)
    ) a;
END $$;

-- How many of `due` jobs wait for their key. Where they are many, those that do not are counted; where
-- both are, the share is that of the keys.
CREATE FUNCTION {schema}.count_limited(q int, t bigint, due bigint, at_most bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
    held bigint;
    free bigint;
BEGIN
    SELECT count(*), count(*) FILTER (WHERE k.held) INTO free, held FROM (
        (SELECT k.open_at > t AS held FROM keys k WHERE k.queue = q AND k.place = 1
            ORDER BY k.turn LIMIT at_most)
        UNION ALL (SELECT k.open_at > t FROM keys k WHERE k.queue = q AND k.place = 2 LIMIT at_most)
        UNION ALL (SELECT true FROM keys k WHERE k.queue = q AND k.place = 3 LIMIT at_most)
    ) k;
    free := free - held;
    IF held = 0 THEN
        RETURN 0;
    END IF;
    n := count_of_keys(q, t, true, at_most);
    IF n < at_most OR due <= at_most THEN
        RETURN least(n, due);
    END IF;
    n := count_of_keys(q, t, false, at_most);
    IF n < at_most THEN
        RETURN greatest(0, due - n);
    END IF;
    RETURN greatest(at_most, least(due - at_most, due * held / (held + free)));
END $$;

-- Jobs that are due, of keys that are held back or are not: at most so many.
CREATE FUNCTION {schema}.count_of_keys(q int, t bigint, are_held boolean, at_most bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM (
        SELECT FROM (
            (SELECT k.key, k.open_at > t AS held FROM {schema}.keys k WHERE k.queue = q AND k.place = 1
                ORDER BY k.turn LIMIT at_most)
            UNION ALL
            (SELECT k.key, k.open_at > t FROM {schema}.keys k WHERE k.queue = q AND k.place = 2
                ORDER BY k.open_at LIMIT 2 * at_most)
            UNION ALL
            (SELECT k.key, true FROM {schema}.keys k WHERE k.queue = q AND k.place = 3 LIMIT at_most)
        ) k CROSS JOIN LATERAL (
            SELECT FROM {schema}.jobs j
            WHERE j.queue = q AND j.key = k.key AND j.placed AND j.token = 0 LIMIT at_most
        ) j WHERE k.held = are_held LIMIT at_most
    ) c
$$;
