-- Prolongs leases. Rows that another transaction has locked right now are left for the next time.
CREATE FUNCTION {schema}.extend(q int, ids bytea[], tokens bigint[], lease bigint) RETURNS bytea[]
LANGUAGE plpgsql {set} AS $$
DECLARE
    t bigint := clock(q);
BEGIN
    WITH held AS (
        SELECT j.id FROM unnest(ids, tokens) AS e(id, token)
        JOIN jobs j ON j.id = ANY (ARRAY[e.id]) AND j.token = e.token
        FOR UPDATE OF j SKIP LOCKED
    )
    UPDATE jobs j SET until = t + lease FROM held h WHERE j.id = ANY (ARRAY[h.id]);
    RETURN array(
        SELECT e.id FROM unnest(ids, tokens) AS e(id, token)
        WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.id = ANY (ARRAY[e.id]) AND j.token = e.token)
    );
END $$;

-- Sets rules: all in which this builder differs from the last (`which` 0), or those of each key (1) or
-- of the queue (2). So what was set while running stays until the code changes.
CREATE FUNCTION {schema}.set_rules(
    q int, which int, given text, new_quota int, new_period bigint, new_burst int,
    new_key_quota int, new_key_period bigint, new_key_burst int, new_concurrency int
) RETURNS void LANGUAGE plpgsql {set} AS $$
DECLARE
    r {schema}.queues;
    old {schema}.queues;
    t bigint;
    none CONSTANT text := '[null,null,null]';
    news json[] := parts(given);
    now_set json[];
    built json[];
    takes boolean[];
    new_rules text;
    unknown bigint;
BEGIN
    PERFORM demand_committed();
    PERFORM pg_advisory_xact_lock('queues'::regclass::oid::int, q);
    SELECT * INTO r FROM queues WHERE queue = q FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue %', q USING ERRCODE = 'no_data_found';
    END IF;
    now_set := parts(coalesce(r.rules, none));
    IF which = 0 THEN
        built := parts(coalesce(r.built, none));
        takes := array(SELECT news[i]::text <> built[i]::text FROM generate_series(1, 3) i);
        UPDATE queues SET built = given WHERE queue = q;
    ELSE
        takes := ARRAY[which = 2, which = 1, false];
    END IF;
    new_rules := (
        SELECT '[' || string_agg(
            (CASE WHEN takes[i] THEN news[i] ELSE now_set[i] END)::text, ',' ORDER BY i
        ) || ']' FROM generate_series(1, 3) i
    );
    IF r.rules IS NOT DISTINCT FROM new_rules THEN
        RETURN;
    END IF;
    IF NOT takes[1] THEN
        SELECT r.quota, r.period, r.burst INTO new_quota, new_period, new_burst;
    END IF;
    IF NOT takes[2] THEN
        SELECT r.key_quota, r.key_period, r.key_burst
        INTO new_key_quota, new_key_period, new_key_burst;
    END IF;
    IF NOT takes[3] THEN
        new_concurrency := r.concurrency;
    END IF;
    t := clock(q);
    old := r;
    unknown := coalesce(last_grant(q), 0);
    IF (r.quota, r.period, r.burst) IS DISTINCT FROM (new_quota, new_period, new_burst) THEN
        IF r.quota IS NULL THEN
            r.last := unknown;
        END IF;
        SELECT c.slot, c.log INTO r.slot, r.log FROM changed(
            r.slot, r.log, r.last, r.quota, r.period, r.burst, r.since, r.began,
            new_quota, new_period, new_burst, t
        ) c;
        r.since := r.last;
        r.began := greatest(t, r.last);
        r.until := coalesce(r.last + new_period, 0);
    END IF;
    IF (r.key_quota, r.key_period, r.key_burst)
        IS DISTINCT FROM (new_key_quota, new_key_period, new_key_burst)
    THEN
        -- A key that is not known was granted nothing for a period.
        r.key_unseen := greatest(r.key_unseen, CASE
            WHEN r.key_quota IS NULL OR r.own THEN unknown
            ELSE least(unknown, t - r.key_period)
        END);
        r.key_hold := coalesce(free_at(
            r.key_unseen, CASE WHEN NOT r.own THEN r.key_quota END, r.key_period, r.key_burst, r.key_since,
            new_key_quota, new_key_period, t
        ), 0);
        r.key_since := unknown;
        r.key_began := CASE WHEN r.key_hold <= t THEN greatest(t, unknown) ELSE 0 END;
        r.key_until := coalesce(unknown + new_key_period, 0);
    END IF;
    UPDATE queues SET slot = r.slot, last = r.last, log = r.log,
        since = r.since, began = r.began, until = r.until,
        key_since = r.key_since, key_began = r.key_began, key_until = r.key_until,
        key_unseen = r.key_unseen, key_hold = r.key_hold, rules = new_rules, quota = new_quota, period = new_period, burst = new_burst,
        key_quota = new_key_quota, key_period = new_key_period, key_burst = new_key_burst,
        concurrency = new_concurrency
    WHERE queue = q RETURNING * INTO r;
    IF r.keyed THEN
        -- Nobody counts where the number does not matter.
        UPDATE keys SET in_flight = 0 WHERE queue = q AND in_flight <> 0;
        IF r.concurrency IS NOT NULL THEN
            WITH leased AS (
                SELECT j.key, count(*) AS n FROM leases l CROSS JOIN LATERAL unnest(l.ids) AS u(id)
                JOIN jobs j ON j.id = ANY (ARRAY[u.id]) AND j.token = l.n
                WHERE l.queue = q AND j.key <> ''
                GROUP BY j.key
            ), known AS (
                UPDATE keys k SET in_flight = e.n FROM leased e CROSS JOIN LATERAL (
                    SELECT p.ctid AS tid FROM keys p
                    WHERE p.queue = q AND p.key = e.key ORDER BY p.turn DESC LIMIT 1
                ) o WHERE k.ctid = o.tid
                RETURNING k.key
            )
            INSERT INTO keys (queue, key, in_flight)
            SELECT q, e.key, e.n FROM leased e WHERE e.key NOT IN (SELECT k.key FROM known k);
        END IF;
        IF (old.key_quota, old.key_period, old.key_burst)
            IS DISTINCT FROM (new_key_quota, new_key_period, new_key_burst)
        THEN
            UPDATE keys k SET slot = c.slot, log = c.log
            FROM keys o CROSS JOIN LATERAL changed(
                o.slot, o.log, o.last, old.key_quota, old.key_period, old.key_burst,
                old.key_since, old.key_began, new_key_quota, new_key_period, new_key_burst, t
            ) c
            WHERE o.queue = q AND o.rate IS NULL AND o.last > 0 AND k.ctid = o.ctid;
            UPDATE keys SET slot = first_slot(r, t), log = '{}'
            WHERE queue = q AND rate IS NULL AND last = 0;
            -- It is that of all keys from now on, also of those that had their own.
            UPDATE arrivals SET rate = NULL WHERE queue = q AND rate IS NOT NULL;
            UPDATE keys k SET rate = NULL, hold = c.hold, slot = c.slot, log = c.log
            FROM keys o CROSS JOIN LATERAL rated(o, NULL, r) c
            WHERE o.queue = q AND o.rate IS NOT NULL AND k.ctid = o.ctid;
            UPDATE queues SET own_since = t, own = false WHERE queue = q RETURNING * INTO r;
        END IF;
        IF r.own THEN
            PERFORM find_rates(r, array(SELECT k.key FROM keys k WHERE k.queue = q));
        END IF;
        r := place(r, t, t, array(SELECT k.ctid FROM keys k WHERE k.queue = q), NULL, NULL);
        UPDATE queues SET limited_key = r.limited_key WHERE queue = q;
    END IF;
    PERFORM pg_notify(r.channel, '');
END $$;

-- The rules of the queue, of each key, and the concurrency, out of what is stored of them.
CREATE FUNCTION {schema}.parts(rules text) RETURNS json[] LANGUAGE sql IMMUTABLE AS
$$ SELECT array(SELECT e FROM json_array_elements(rules::json) e) $$;

CREATE FUNCTION {schema}.pause(q int, on_hold boolean) RETURNS void LANGUAGE plpgsql {set} AS $$
DECLARE
    r {schema}.queues;
BEGIN
    UPDATE queues SET paused = on_hold WHERE queue = q AND paused <> on_hold RETURNING * INTO r;
    IF FOUND THEN
        PERFORM pg_notify(r.channel, '');
    END IF;
END $$;

-- Null where there is no room.
CREATE FUNCTION {schema}.replay(q int, letter bytea, capacity bigint) RETURNS boolean
LANGUAGE plpgsql {set} AS $$
DECLARE
    t bigint;
    low bigint;
    d {schema}.dead;
BEGIN
    PERFORM FROM dead o WHERE o.queue = q AND o.id = letter;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF (SELECT sum(n) FROM counts WHERE queue = q) >= capacity THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock_shared('sleepers'::regclass::oid::int, q);
    t := clock(q);
    DELETE FROM dead o WHERE o.queue = q AND o.id = letter RETURNING * INTO d;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    low := nextval('numbers');
    INSERT INTO jobs (id, seq, enqueued, since, queue, rank, placed, key, long_key, payload, trace, rate)
    VALUES (d.id, nextval('numbers'), d.enqueued, t, q, d.rank, true, d.key, d.long_key, d.payload,
        d.trace, d.rate)
    ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    IF d.key <> '' THEN
        INSERT INTO arrivals (n, queue, key, rate, first) VALUES (nextval('numbers'), q, d.key, d.rate, low);
    END IF;
    PERFORM arrived(q, 1);
    RETURN true;
END $$;

CREATE FUNCTION {schema}.open_queue(the_name text, the_channel text, OUT queue int, OUT channel text)
LANGUAGE plpgsql {set} AS $$
BEGIN
    PERFORM demand_committed();
    INSERT INTO queues AS r (name, channel) VALUES (the_name, the_channel)
    ON CONFLICT (name) DO NOTHING;
    SELECT r.queue, r.channel INTO queue, channel FROM queues r WHERE r.name = the_name;
    INSERT INTO sleepers AS s (queue) VALUES (open_queue.queue) ON CONFLICT DO NOTHING;
    INSERT INTO clocks AS c (queue) VALUES (open_queue.queue) ON CONFLICT DO NOTHING;
    INSERT INTO heads AS h (queue) VALUES (open_queue.queue) ON CONFLICT DO NOTHING;
    PERFORM look_back(open_queue.queue, (SELECT n.last_value FROM numbers n));
    INSERT INTO counts AS c (queue, shard) SELECT open_queue.queue, s FROM generate_series(0, 15) s
    ON CONFLICT DO NOTHING;
END $$;
