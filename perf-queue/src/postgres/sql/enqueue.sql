-- What an enqueue does last: counts, and wakes a process that waits. The caller holds the shared
-- advisory lock, so that no process can fall asleep between having seen no job and having said so.
-- Waits for no row: transactions that commit jobs to several queues, in any order, never wait for
-- each other.
CREATE FUNCTION {schema}.arrived(q int, added bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tally(q, added, 0, 0, 0);
    IF (SELECT s.asleep FROM sleepers s WHERE s.queue = q) THEN
        PERFORM FROM sleepers s WHERE s.queue = q AND s.asleep FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            UPDATE sleepers SET asleep = false WHERE queue = q;
        END IF;
        -- Also where another is about to say so: it may not commit.
        PERFORM pg_notify((SELECT r.channel FROM queues r WHERE r.queue = q), '');
    END IF;
END $$;

-- Adds to the counts: to a row that nobody else holds, or as one more, which is folded into the others
-- later.
CREATE FUNCTION {schema}.tally(q int, added bigint, gone bigint, lost bigint, at bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    mine bigint := pg_backend_pid() % 16;
BEGIN
    IF added = gone AND lost = 0 AND at = 0 THEN
        RETURN;
    END IF;
    PERFORM FROM counts c WHERE c.queue = q AND c.shard = mine FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN
        UPDATE counts c SET n = c.n + added - gone, dropped = c.dropped + lost, last = greatest(c.last, at)
        WHERE c.queue = q AND c.shard = mine;
    ELSE
        INSERT INTO counts (queue, shard, n, dropped, last)
        VALUES (q, 16 + nextval('numbers'), added - gone, lost, at);
    END IF;
END $$;

-- Takes rows away that `tally` has added, and gives what they counted.
CREATE FUNCTION {schema}.fold(q int, OUT n bigint, OUT dropped bigint, OUT last bigint)
LANGUAGE plpgsql AS $$
BEGIN
    WITH more AS (
        DELETE FROM counts c WHERE c.ctid = ANY (array(
            SELECT o.ctid FROM counts o WHERE o.queue = q AND o.shard >= 16
            ORDER BY o.shard LIMIT 1000 FOR UPDATE SKIP LOCKED
        )) RETURNING c.n, c.dropped, c.last
    ) SELECT coalesce(sum(m.n), 0)::bigint, coalesce(sum(m.dropped), 0)::bigint,
        coalesce(max(m.last), 0) INTO n, dropped, last FROM more m;
END $$;

-- Without room: how many of the jobs would be added at all.
CREATE FUNCTION {schema}.fresh(q int, ids bytea[], names bytea[], spans bigint[], t bigint)
RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM unnest(ids, names, spans) AS e(id, name, span)
    WHERE NOT EXISTS (SELECT FROM {schema}.jobs j WHERE j.id = ANY (ARRAY[e.id]))
        AND NOT EXISTS (
            SELECT FROM {schema}.names n
            WHERE n.queue = q AND n.name = e.name AND (n.until > t OR n.id = e.id)
        )
$$;

-- Takes the names that are free. Gives for each job the id that it is under; another than its own
-- where the name is taken, and null in `mine` where it shall not be added.
CREATE FUNCTION {schema}.take_names(
    q int, INOUT ids bytea[], names bytea[], spans bigint[], t bigint, OUT mine bytea[]
) LANGUAGE plpgsql AS $$
DECLARE
    e record;
    holder bytea;
BEGIN
    mine := ids;
    -- In the order of the names, so that two of these wait for each other in one direction only.
    FOR e IN
        SELECT u.name, u.span, u.i FROM unnest(names, spans) WITH ORDINALITY AS u(name, span, i)
        WHERE u.name IS NOT NULL ORDER BY u.name, u.i
    LOOP
        INSERT INTO names AS n (queue, name, id, until)
        VALUES (q, e.name, ids[e.i], t + e.span)
        ON CONFLICT (queue, name) DO UPDATE
        SET id = excluded.id, until = excluded.until
        WHERE n.until <= t AND n.id <> excluded.id;
        IF NOT FOUND THEN
            SELECT n.id INTO holder FROM names n WHERE n.queue = q AND n.name = e.name;
            -- Its own id: an answer was lost, and the job is there or was done already.
            ids[e.i] := coalesce(holder, ids[e.i]);
            mine[e.i] := NULL;
        END IF;
    END LOOP;
    DELETE FROM names n WHERE n.ctid = ANY (ARRAY(
        SELECT o.ctid FROM names o WHERE o.queue = q AND o.until < t
        ORDER BY o.until LIMIT 2 * cardinality(names) FOR UPDATE SKIP LOCKED
    ));
END $$;

-- Adds all jobs or none; `keys`, `delays`, `ranks` and `traces` are null where no job has any. Null where
-- there is no room; none where the jobs of a transaction cannot be seen to arrive, since it sees only what
-- was there when it began.
CREATE FUNCTION {schema}.enqueue(
    q int, ids bytea[], keys bytea[], payloads bytea[], delays bigint[], ranks smallint[],
    names bytea[], spans bigint[], traces text[], capacity bigint, at_commit boolean,
    quotas int[], periods bigint[], bursts int[]
) RETURNS bytea[] LANGUAGE plpgsql {set} AS $$
DECLARE
    t bigint := clock(q);
    mine bytea[] := ids;
    others bytea[];
    here bigint;
    added bigint;
    low bigint;
BEGIN
    IF at_commit AND current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        RETURN '{}';
    END IF;
    IF names IS NOT NULL THEN
        -- As with keys: one too long for an index is replaced by its hash.
        names := array(
            SELECT CASE WHEN length(u.name) <= 255 THEN u.name ELSE sha256(u.name) END
            FROM unnest(names) WITH ORDINALITY AS u(name, i) ORDER BY u.i
        );
    END IF;
    SELECT sum(n) INTO here FROM counts WHERE queue = q;
    IF here IS NULL THEN
        RAISE EXCEPTION 'no queue %', q USING ERRCODE = 'no_data_found';
    END IF;
    IF here + cardinality(ids) > capacity THEN
        added := fresh(q, ids, names, spans, t);
        IF added > 0 AND here + added > capacity THEN
            RETURN NULL;
        END IF;
    END IF;
    -- Locks in this order everywhere: the queue, names, the advisory lock, jobs.
    IF names IS NOT NULL THEN
        SELECT n.ids, n.mine INTO ids, mine FROM take_names(q, ids, names, spans, t) n;
    END IF;
    IF NOT at_commit THEN
        PERFORM pg_advisory_xact_lock_shared('sleepers'::regclass::oid::int, q);
        t := clock(q);
    END IF;
    -- Before its jobs draw their numbers, or a claim might go past them.
    PERFORM pg_current_xact_id();
    IF keys IS NOT NULL THEN
        low := nextval('numbers');
    END IF;
    -- `ON CONFLICT` costs a third more, and an id is hardly ever there already.
    LOOP
        BEGIN
            INSERT INTO jobs (id, seq, due, enqueued, since, queue, rank, placed, key, long_key, payload, trace, rate)
            SELECT e.id, nextval('numbers'),
                CASE WHEN at_commit THEN -1 - e.delay WHEN e.delay > 0 THEN t + e.delay END,
                t, t + e.delay, q, e.rank, NOT at_commit AND e.delay = 0,
                CASE WHEN length(e.key) <= 255 THEN e.key ELSE sha256(e.key) END,
                CASE WHEN length(e.key) > 255 THEN e.key END,
                e.payload, e.trace,
                CASE WHEN e.quota IS NOT NULL THEN ARRAY[e.quota, e.period, e.burst] END
            FROM (
                SELECT u.id, coalesce(u.key, '') AS key, u.payload, coalesce(u.delay, 0) AS delay,
                    coalesce(u.rank, 0::smallint) AS rank, coalesce(u.trace, '') AS trace,
                    u.quota, u.period, u.burst
                FROM (
                    SELECT unnest(mine) AS id, unnest(keys) AS key, unnest(payloads) AS payload,
                        unnest(delays) AS delay, unnest(ranks) AS rank, unnest(traces) AS trace,
                        unnest(quotas) AS quota, unnest(periods) AS period, unnest(bursts) AS burst
                ) u
            ) e
            WHERE e.id IS NOT NULL;
            GET DIAGNOSTICS added = ROW_COUNT;
            EXIT;
        EXCEPTION WHEN unique_violation THEN
            others := array(
                SELECT CASE WHEN NOT EXISTS (SELECT FROM jobs j WHERE j.id = ANY (ARRAY[u.id])) THEN u.id END
                FROM unnest(mine) WITH ORDINALITY AS u(id, i) ORDER BY u.i
            );
            IF others IS NOT DISTINCT FROM mine THEN
                -- Whose it is this transaction does not see: it is to be tried again.
                RAISE serialization_failure;
            END IF;
            mine := others;
        END;
    END LOOP;
    IF at_commit THEN
        INSERT INTO commits (n, queue, ids) VALUES (nextval('numbers'), q, mine);
        RETURN ids;
    END IF;
    IF keys IS NOT NULL THEN
        -- A limit holds from the enqueue on, also where its job is not due yet.
        INSERT INTO arrivals (n, queue, key, rate, first)
        SELECT nextval('numbers'), q, k.key, k.rate, low FROM (
            SELECT CASE WHEN length(e.key) <= 255 THEN e.key ELSE sha256(e.key) END AS key,
                CASE WHEN quotas[max(e.i)] IS NOT NULL THEN
                    ARRAY[quotas[max(e.i)], periods[max(e.i)], bursts[max(e.i)]]
                END AS rate
            FROM unnest(mine, keys, delays) WITH ORDINALITY AS e(id, key, delay, i)
            WHERE e.key <> '' AND (coalesce(e.delay, 0) = 0 OR quotas IS NOT NULL)
                AND (quotas IS NULL OR e.id IS NOT NULL)
            GROUP BY e.key ORDER BY min(e.i)
        ) k;
    END IF;
    PERFORM arrived(q, added);
    RETURN ids;
END $$;

-- The jobs of a transaction arrive when it commits, and get their places in the order then: of two
-- commits, one of which was over before the other began, the jobs of the first go first.
CREATE FUNCTION {schema}.committed() RETURNS trigger LANGUAGE plpgsql {set} AS $$
DECLARE
    t bigint;
    added bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared('sleepers'::regclass::oid::int, NEW.queue);
    t := clock(NEW.queue);
    WITH placed AS (
        UPDATE jobs j SET
            seq = nextval('numbers'),
            placed = j.due = -1,
            due = CASE WHEN j.due < -1 THEN t - 1 - j.due END,
            enqueued = t,
            since = t - 1 - j.due
        FROM unnest(NEW.ids) AS e(id)
        WHERE j.id = ANY (ARRAY[e.id]) AND j.due < 0
        RETURNING j.key, j.placed, j.seq, j.rate
    ), told AS (
        INSERT INTO arrivals (n, queue, key, rate, first)
        SELECT nextval('numbers'), NEW.queue, k.key, last.rate, k.first
        FROM (
            SELECT p.key, max(p.seq) AS last, min(p.seq) AS first FROM placed p
            WHERE p.key <> '' AND (p.placed OR p.rate IS NOT NULL)
            GROUP BY p.key ORDER BY min(p.seq)
        ) k JOIN placed last ON last.seq = k.last
    )
    SELECT count(*) INTO added FROM placed;
    DELETE FROM commits WHERE n = NEW.n;
    PERFORM arrived(NEW.queue, added);
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER committed AFTER INSERT ON {schema}.commits
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {schema}.committed();
