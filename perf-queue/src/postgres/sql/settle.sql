-- Ends jobs whose leases hold. `how`: 0 done, 1 retry, 2 snooze, 3 dead, 4 released; `scope`: 1 the
-- key, 2 the queue.
CREATE FUNCTION {schema}.settle(
    INOUT r {schema}.queues, t bigint, ids bytea[], tokens bigint[], hows smallint[], afters bigint[],
    scopes smallint[], messages text[], OUT lost bytea[], OUT gone bigint, OUT touched bytea[]
) LANGUAGE plpgsql AS $$
DECLARE
    q int := r.queue;
    ended bytea[];
    more bytea[];
    ended_keys bytea[];
    more_keys bytea[];
    until bigint;
BEGIN
    WITH done AS (
        DELETE FROM jobs j USING unnest(ids, tokens, hows) AS e(id, token, how)
        WHERE e.how = 0 AND j.id = e.id AND j.token = e.token AND j.due > t
        RETURNING j.id, j.key
    ) SELECT array_agg(d.id), array_agg(d.key) INTO ended, ended_keys FROM done d;
    gone := coalesce(cardinality(ended), 0);
    touched := '{}';
    IF gone < cardinality(ids) AND 3 = ANY (hows) THEN
        WITH failed AS (
            DELETE FROM jobs j USING unnest(ids, tokens, hows, messages) AS e(id, token, how, message)
            WHERE e.how = 3 AND j.id = e.id AND j.token = e.token AND j.due > t
            RETURNING j.*, e.message
        ), letters AS (
            INSERT INTO dead (id, queue, n, enqueued, died, attempts, rank, key, long_key, payload, trace, errors)
            SELECT f.id, q, nextval('numbers'), f.enqueued, t, f.attempt,
                CASE WHEN f.rank < -500 THEN f.rank + 1000 ELSE f.rank END,
                f.key, f.long_key, f.payload, f.trace, last_errors(f.errors, f.message)
            FROM failed f
            ON CONFLICT (id) DO NOTHING
        ) SELECT array_agg(f.id), array_agg(f.key) INTO more, more_keys FROM failed f;
        ended := ended || more;
        ended_keys := ended_keys || more_keys;
        gone := gone + coalesce(cardinality(more), 0);
        DELETE FROM dead d WHERE d.queue = q AND d.n <= (
            SELECT o.n FROM dead o WHERE o.queue = q ORDER BY o.n DESC OFFSET 1000 LIMIT 1
        );
    END IF;
    IF coalesce(cardinality(ended), 0) < cardinality(ids) AND hows && '{1,2,4}'::smallint[] THEN
        WITH back AS (
            UPDATE jobs j SET
                token = 0,
                attempt = j.attempt + (e.how = 1)::int,
                errors = CASE WHEN e.how = 1 THEN last_errors(j.errors, e.message) ELSE j.errors END,
                rank = CASE
                    WHEN e.stays AND j.rank >= -500 THEN j.rank - 1000
                    WHEN NOT e.stays AND j.rank < -500 THEN j.rank + 1000
                    ELSE j.rank
                END,
                seq = CASE WHEN e.stays THEN j.seq ELSE nextval('numbers') END,
                ready = e.stays OR e.after = 0,
                due = CASE WHEN NOT e.stays AND e.after > 0 THEN t + e.after END,
                since = CASE WHEN e.how = 4 THEN j.since ELSE t + e.after END
            FROM (
                SELECT u.*, u.how = 4 OR (r.concurrency IS NOT DISTINCT FROM 1 AND k.key <> '') AS stays
                FROM unnest(ids, tokens, hows, afters, messages) AS u(id, token, how, after, message)
                JOIN jobs k ON k.id = u.id
                WHERE u.how IN (1, 2, 4)
            ) e
            WHERE j.id = e.id AND j.token = e.token AND j.due > t
            RETURNING j.id, j.key
        ) SELECT array_agg(b.id), array_agg(b.key) INTO more, more_keys FROM back b;
        ended := ended || more;
        ended_keys := ended_keys || more_keys;
        touched := array(SELECT DISTINCT k FROM unnest(more_keys) k WHERE k <> '');
        -- Penalties, and keys that wait for the retry of their first job.
        INSERT INTO keys AS o (queue, key, hold)
        SELECT q, j.key, max(t + e.after)
        FROM unnest(ids, hows, afters, scopes) AS e(id, how, after, scope)
        JOIN jobs j ON j.id = e.id
        WHERE e.id = ANY (more) AND j.key <> '' AND e.after > 0 AND e.how IN (1, 2)
            AND (e.scope = 1 OR r.concurrency = 1)
        GROUP BY j.key
        ON CONFLICT (queue, key) DO UPDATE SET hold = greatest(o.hold, excluded.hold);
        SELECT max(t + e.after) INTO until
        FROM unnest(ids, hows, afters, scopes) AS e(id, how, after, scope)
        JOIN jobs j ON j.id = e.id
        WHERE e.id = ANY (more) AND e.how = 2 AND (e.scope = 2 OR e.scope = 1 AND j.key = '');
        r.hold := greatest(r.hold, until);
    END IF;
    IF r.concurrency IS NOT NULL AND r.keyed THEN
        UPDATE keys k SET in_flight = greatest(0, k.in_flight - e.n)
        FROM (SELECT u.key, count(*)::int AS n FROM unnest(ended_keys) AS u(key) GROUP BY u.key) e
        WHERE k.queue = q AND k.key = e.key;
        touched := array(SELECT DISTINCT k FROM unnest(ended_keys) k WHERE k <> '');
    END IF;
    IF coalesce(cardinality(ended), 0) < cardinality(ids) THEN
        lost := array(SELECT DISTINCT e FROM unnest(ids) e WHERE e <> ALL (coalesce(ended, '{}')));
    ELSE
        lost := '{}';
    END IF;
END $$;

CREATE FUNCTION {schema}.last_errors(errors text[], message text) RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT (a.e)[greatest(1, cardinality(a.e) - 9):]
    FROM (SELECT coalesce(errors, '{}') || message AS e) a
$$;

-- Makes jobs ready whose time has come or whose lease is over: those that waited the longest, no
-- more than a thousand, so that a call takes no longer when very many are due at once.
CREATE FUNCTION {schema}.promote(r {schema}.queues, t bigint, OUT touched bytea[])
LANGUAGE plpgsql AS $$
DECLARE
    flown bytea[];
BEGIN
    WITH due AS (
        SELECT j.id FROM jobs j WHERE j.queue = r.queue AND j.due <= t
        ORDER BY j.due, j.seq LIMIT 1000 FOR UPDATE SKIP LOCKED
    ), up AS (
        UPDATE jobs j SET
            ready = true,
            due = NULL,
            token = 0,
            since = j.due,
            attempt = j.attempt + (j.token <> 0)::int,
            rank = CASE WHEN j.token <> 0 AND j.rank >= -500 THEN j.rank - 1000 ELSE j.rank END,
            seq = CASE WHEN j.token <> 0 THEN j.seq ELSE nextval('numbers') END
        FROM due d JOIN jobs o ON o.id = d.id
        WHERE j.id = d.id
        RETURNING j.key, o.token <> 0 AS flew
    )
    SELECT array_agg(DISTINCT u.key) FILTER (WHERE u.key <> ''),
        array_agg(u.key) FILTER (WHERE u.key <> '' AND u.flew)
    INTO touched, flown FROM up u;
    IF flown IS NOT NULL AND r.concurrency IS NOT NULL THEN
        UPDATE keys k SET in_flight = greatest(0, k.in_flight - e.n)
        FROM (SELECT u.key, count(*)::int AS n FROM unnest(flown) AS u(key) GROUP BY u.key) e
        WHERE k.queue = r.queue AND k.key = e.key;
    END IF;
    touched := coalesce(touched, '{}');
END $$;
