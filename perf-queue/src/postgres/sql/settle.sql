-- Ends jobs whose leases hold. `how`: 0 done, 1 retry, 2 snooze, 3 dead, 4 released; `scope`: 1 the
-- key, 2 the queue.
CREATE FUNCTION {schema}.settle(
    INOUT r {schema}.queues, t bigint, ids bytea[], tokens bigint[], hows smallint[], afters bigint[],
    scopes smallint[], messages text[], letters bigint,
    OUT lost bytea[], OUT gone bigint, OUT touched bytea[], OUT dropped bigint
) LANGUAGE plpgsql AS $$
DECLARE
    q int := r.queue;
    ended bytea[];
    more bytea[];
    ended_keys bytea[];
    more_keys bytea[];
    until bigint;
BEGIN
    -- Those of a lease are found by one scan of the index. Here and below by `ANY`, even of one: to join by
    -- `=`, the planner might go through all jobs where it takes the table for empty.
    WITH done AS (
        DELETE FROM jobs j USING (
            SELECT u.token, array_agg(u.id) AS ids FROM (
                SELECT unnest(ids) AS id, unnest(tokens) AS token, unnest(hows) AS how
            ) u WHERE u.how = 0 GROUP BY u.token ORDER BY u.token
        ) e
        WHERE j.id = ANY (e.ids) AND j.token = e.token AND j.until > t
        RETURNING j.id, j.key
    ) SELECT array_agg(d.id), array_agg(d.key) INTO ended, ended_keys FROM done d;
    gone := coalesce(cardinality(ended), 0);
    touched := '{}';
    IF gone < cardinality(ids) AND 3 = ANY (hows) THEN
        WITH failed AS (
            DELETE FROM jobs j
            USING unnest(ids, tokens, hows, messages) WITH ORDINALITY AS e(id, token, how, message, i)
            WHERE e.how = 3 AND j.id = ANY (ARRAY[e.id]) AND j.token = e.token AND j.until > t
            RETURNING j.*, e.message, e.i
        ), buried AS (
            INSERT INTO dead (id, queue, n, enqueued, died, attempts, rank, key, long_key, payload, trace, errors, rate)
            SELECT f.id, q, nextval('numbers'), f.enqueued, t, f.attempt,
                CASE WHEN f.rank < -500 THEN f.rank + 1000 ELSE f.rank END,
                f.key, f.long_key, f.payload, f.trace, last_errors(f.errors, f.message), f.rate
            FROM failed f
            -- The numbers are drawn after the sort.
            ORDER BY f.i
            ON CONFLICT (id) DO NOTHING
        ) SELECT array_agg(f.id), array_agg(f.key) INTO more, more_keys FROM failed f;
        ended := ended || more;
        ended_keys := ended_keys || more_keys;
        gone := gone + coalesce(cardinality(more), 0);
        DELETE FROM dead d WHERE d.queue = q AND d.n <= (
            SELECT o.n FROM dead o WHERE o.queue = q ORDER BY o.n DESC OFFSET letters LIMIT 1
        );
        GET DIAGNOSTICS dropped = ROW_COUNT;
    END IF;
    IF coalesce(cardinality(ended), 0) < cardinality(ids) AND hows && '{1,2,4}'::smallint[] THEN
        -- Before its jobs draw numbers.
        PERFORM pg_current_xact_id();
        WITH back AS (
            UPDATE jobs j SET
                token = 0,
                attempt = j.attempt + (e.how = 1)::int,
                errors = CASE WHEN e.how = 1 THEN last_errors(j.errors, e.message) ELSE j.errors END,
                rank = CASE
                    WHEN stays(r, e.how, j.key) AND j.rank >= -500 THEN j.rank - 1000
                    WHEN NOT stays(r, e.how, j.key) AND j.rank < -500 THEN j.rank + 1000
                    ELSE j.rank
                END,
                seq = CASE WHEN stays(r, e.how, j.key) THEN j.seq ELSE nextval('numbers') END,
                placed = stays(r, e.how, j.key) OR e.after = 0,
                due = CASE WHEN NOT stays(r, e.how, j.key) AND e.after > 0 THEN t + e.after END,
                since = CASE WHEN e.how = 4 THEN j.since ELSE t + e.after END
            FROM unnest(ids, tokens, hows, afters, messages) AS e(id, token, how, after, message)
            WHERE e.how IN (1, 2, 4) AND j.id = ANY (ARRAY[e.id]) AND j.token = e.token AND j.until > t
            RETURNING j.id, j.key
        ) SELECT array_agg(b.id), array_agg(b.key) INTO more, more_keys FROM back b;
        ended := ended || more;
        ended_keys := ended_keys || more_keys;
        touched := array(SELECT DISTINCT k FROM unnest(more_keys) k WHERE k <> '');
        -- Penalties, and keys that wait for the retry of their first job.
        WITH held AS (
            SELECT j.key, max(t + e.after) AS until
            FROM unnest(ids, hows, afters, scopes) AS e(id, how, after, scope)
            JOIN jobs j ON j.id = ANY (ARRAY[e.id])
            WHERE e.id = ANY (more) AND j.key <> '' AND e.after > 0 AND e.how IN (1, 2)
                AND (e.scope = 1 OR r.concurrency = 1)
            GROUP BY j.key
        ), known AS (
            UPDATE keys k SET hold = greatest(k.hold, h.until) FROM held h CROSS JOIN LATERAL (
                SELECT p.ctid AS tid FROM keys p
                WHERE p.queue = q AND p.key = h.key ORDER BY p.turn DESC LIMIT 1
            ) o WHERE k.ctid = o.tid
            RETURNING k.key
        )
        INSERT INTO keys (queue, key, slot, hold)
        SELECT q, h.key, first_slot(r, t), h.until FROM held h
        WHERE h.key NOT IN (SELECT k.key FROM known k);
        SELECT max(t + e.after) INTO until
        FROM unnest(ids, hows, afters, scopes) AS e(id, how, after, scope)
        JOIN jobs j ON j.id = ANY (ARRAY[e.id])
        WHERE e.id = ANY (more) AND e.how = 2 AND (e.scope = 2 OR e.scope = 1 AND j.key = '');
        r.hold := greatest(r.hold, until);
    END IF;
    IF r.concurrency IS NOT NULL AND r.keyed THEN
        PERFORM landed(q, ended_keys);
        touched := array(SELECT DISTINCT k FROM unnest(ended_keys) k WHERE k <> '');
    END IF;
    IF coalesce(cardinality(ended), 0) < cardinality(ids) THEN
        lost := array(SELECT DISTINCT e FROM unnest(ids) e WHERE e <> ALL (coalesce(ended, '{}')));
    ELSE
        lost := '{}';
    END IF;
    UPDATE leases l SET left_over = l.left_over - e.n FROM (
        SELECT u.token, count(*)::int AS n FROM unnest(ids, tokens) AS u(id, token)
        WHERE cardinality(lost) = 0 OR u.id <> ALL (lost)
        GROUP BY u.token ORDER BY u.token
    ) e WHERE l.n = e.token;
    DELETE FROM leases l WHERE l.n = ANY (tokens) AND l.left_over <= 0;
END $$;

-- Whether a job that has not ended blocks its key until it has.
CREATE FUNCTION {schema}.stays(r {schema}.queues, how smallint, key bytea) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$ SELECT how = 4 OR (r.concurrency IS NOT DISTINCT FROM 1 AND key <> '') $$;

-- Jobs of these keys, one for each time that it is listed, do not run any more.
CREATE FUNCTION {schema}.landed(q int, whose bytea[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE keys k SET in_flight = greatest(0, k.in_flight - e.n)
    FROM (
        SELECT u.n, o.tid FROM (
            SELECT a.key, count(*)::int AS n FROM unnest(whose) AS a(key) GROUP BY a.key
        ) u CROSS JOIN LATERAL (
            SELECT p.ctid AS tid FROM keys p
            WHERE p.queue = q AND p.key = u.key ORDER BY p.turn DESC LIMIT 1
        ) o
    ) e
    WHERE k.ctid = e.tid;
END $$;

CREATE FUNCTION {schema}.last_errors(errors text[], message text) RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT (a.e)[greatest(1, cardinality(a.e) - 9):]
    FROM (SELECT coalesce(errors, '{}') || message AS e) a
$$;

-- Gives jobs their place whose time has come or whose lease is over: those that waited the longest,
-- about a thousand, so that a call takes no longer when very many are due at once.
CREATE FUNCTION {schema}.promote(
    r {schema}.queues, t bigint, OUT touched bytea[], OUT rated boolean
)
LANGUAGE plpgsql AS $$
DECLARE
    flown bytea[];
    over bigint[];
BEGIN
    WITH due AS MATERIALIZED (
        SELECT j.id, j.due, j.seq FROM jobs j WHERE j.queue = r.queue AND j.due <= t
        ORDER BY j.due, j.seq LIMIT 1000 FOR UPDATE SKIP LOCKED
    ), numbered AS MATERIALIZED (
        -- Here and not in the update, which goes through them in any order.
        SELECT d.id, nextval('numbers') AS seq FROM (SELECT o.id FROM due o ORDER BY o.due, o.seq) d
    ), up AS (
        UPDATE jobs j SET placed = true, due = NULL, seq = d.seq
        FROM numbered d WHERE j.id = ANY (ARRAY[d.id])
        RETURNING j.key, j.seq, j.rate
    )
    SELECT array_agg(u.key ORDER BY u.seq) FILTER (WHERE u.key <> ''),
        coalesce(bool_or(u.rate IS NOT NULL), false)
    INTO touched, rated FROM up u;
    over := array(
        SELECT f.n FROM (
            SELECT e.n, sum(e.left_over) OVER (ORDER BY e.until, e.n) - e.left_over AS before FROM (
                SELECT l.n, l.until, l.left_over FROM leases l
                WHERE l.queue = r.queue AND l.until <= t
                ORDER BY l.until LIMIT 1000 FOR UPDATE SKIP LOCKED
            ) e
        ) f WHERE f.before < 1000
    );
    IF cardinality(over) > 0 THEN
        PERFORM tally(r.queue, 0, 0, 0, t);
        WITH lapsed AS (
            SELECT j.id FROM leases l CROSS JOIN LATERAL unnest(l.ids) AS u(id)
            JOIN jobs j ON j.id = ANY (ARRAY[u.id]) AND j.token = l.n AND j.until <= t
            WHERE l.n = ANY (over)
            ORDER BY l.n, j.seq
            FOR UPDATE OF j SKIP LOCKED
        ), up AS (
            UPDATE jobs j SET
                token = 0,
                since = j.until,
                attempt = j.attempt + 1,
                rank = CASE WHEN j.rank >= -500 THEN j.rank - 1000 ELSE j.rank END
            FROM lapsed d WHERE j.id = ANY (ARRAY[d.id])
            RETURNING j.key
        )
        SELECT array_agg(u.key) FILTER (WHERE u.key <> '') INTO flown FROM up u;
        -- What was prolonged, or is being ended right now, is looked at again later.
        UPDATE leases l SET until = s.until, left_over = s.n FROM (
            SELECT o.n AS lease, min(j.until) AS until, count(*)::int AS n
            FROM leases o CROSS JOIN LATERAL unnest(o.ids) AS u(id)
            JOIN jobs j ON j.id = ANY (ARRAY[u.id]) AND j.token = o.n
            WHERE o.n = ANY (over) GROUP BY o.n
        ) s WHERE l.n = s.lease;
        DELETE FROM leases l WHERE l.n = ANY (over) AND NOT EXISTS (
            SELECT FROM unnest(l.ids) AS u(id) JOIN jobs j ON j.id = ANY (ARRAY[u.id]) AND j.token = l.n
        );
        IF flown IS NOT NULL AND r.concurrency IS NOT NULL THEN
            PERFORM landed(r.queue, flown);
        END IF;
    END IF;
    touched := coalesce(touched, '{}') || coalesce(flown, '{}');
END $$;
