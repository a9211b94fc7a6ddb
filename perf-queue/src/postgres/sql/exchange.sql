-- Ends jobs, then leases others, or with a negative `want` only ends jobs. `keys` is null where none of these has one, `starts` where they all may start
-- now, and `token` is that of all. An exchange that needs limits or keys has the queue's row to itself;
-- others run side by side.
CREATE FUNCTION {schema}.exchange(
    q int, e_ids bytea[], e_tokens bigint[], e_hows smallint[], e_afters bigint[],
    e_scopes smallint[], e_messages text[], want int, within bigint, lease bigint,
    letters bigint, OUT lost bytea[], OUT next bigint, OUT limited bigint[], OUT paused boolean,
    OUT ids bytea[], OUT token bigint, OUT keys bytea[], OUT payloads bytea[],
    OUT traces text[], OUT attempts int[], OUT errors text[], OUT starts bigint[],
    OUT slotted boolean[], OUT ages bigint[], OUT waits bigint[]
) LANGUAGE plpgsql {set} AS $$
DECLARE
    r {schema}.queues;
    was {schema}.queues;
    noted {schema}.clocks;
    head {schema}.heads;
    floor bigint;
    mine xid8;
    t bigint;
    horizon bigint;
    keyed boolean;
    locked boolean;
    rated boolean;
    looks_ahead CONSTANT boolean := want > 0 AND random() < 0.1 AND pg_current_xact_id_if_assigned() IS NULL;
    late boolean := false;
    -- More than can come meanwhile, and else so few that nobody waits for it.
    fading CONSTANT int := greatest(100, 2 * want);
    gone bigint := 0;
    fewer bigint := 0;
    touched bytea[] := '{}';
    more bytea[];
    firsts bigint[];
    begin_at bigint;
    brought text[];
    got bytea[] := '{}';
    slots bigint[] := '{}';
    part record;
    stopped boolean := false;
    number bigint;
    last_n bigint;
    open_until bigint;
    fade_until bigint;
    unkeyed int;
    again bigint;
BEGIN
    PERFORM demand_committed();
    -- For `look_ahead`, before anything else gives this transaction its id.
    IF looks_ahead THEN
        floor := nextval('numbers');
        mine := pg_current_xact_id();
    END IF;
    -- The rules stay as they are until this is over, so that what is granted is so by them.
    PERFORM pg_advisory_xact_lock_shared('queues'::regclass::oid::int, q);
    SELECT o AS r, c AS clock, h AS head, EXISTS (
        SELECT FROM arrivals a WHERE a.queue = q AND a.n >= o.arrived
    ) AS arrived INTO part
    FROM queues o JOIN clocks c ON c.queue = o.queue JOIN heads h ON h.queue = o.queue WHERE o.queue = q;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue %', q USING ERRCODE = 'no_data_found';
    END IF;
    r := part.r;
    noted := part.clock;
    head := part.head;
    keyed := r.keyed OR part.arrived;
    -- For `note_ended`.
    IF keyed AND mine IS NULL AND pg_current_xact_id_if_assigned() IS NULL THEN
        floor := nextval('numbers');
        mine := pg_current_xact_id();
    END IF;
    t := micros() + noted.ahead;
    IF t NOT BETWEEN noted.seen AND noted.seen + 1000000 THEN
        PERFORM note_time(q);
        t := clock(q);
    END IF;
    locked := keyed OR r.quota IS NOT NULL OR r.hold > t OR e_scopes && '{1,2}'::smallint[];
    IF locked THEN
        SELECT * INTO r FROM queues WHERE queue = q FOR NO KEY UPDATE;
        t := clock(q);
    END IF;
    number := nextval('numbers');
    IF keyed THEN
        IF number < greatest(r.floor, r.ring) THEN
            PERFORM look_back(q, number);
            SELECT * INTO r FROM queues WHERE queue = q;
        END IF;
        was := r;
        r := note_ended(r, floor, mine);
    ELSE
        was := r;
    END IF;
    r.keyed := r.keyed OR keyed;
    horizon := t + within;
    lost := '{}';
    IF cardinality(e_ids) > 0 THEN
        SELECT * INTO part FROM settle(r, t, e_ids, e_tokens, e_hows, e_afters, e_scopes, e_messages, letters);
        r := part.r;
        lost := part.lost;
        gone := part.gone;
        fewer := coalesce(part.dropped, 0);
        touched := part.touched;
    END IF;
    -- Else a claim runs beside this, which would not see it, and wait for the next poll.
    IF want >= 0 THEN
        SELECT p.touched, p.rated INTO more, rated FROM promote(r, t) p;
        touched := touched || more;
    END IF;
    IF NOT r.keyed AND cardinality(touched) > 0 THEN
        -- There was none before: the next exchange, which is due at once, puts these keys where they belong.
        late := true;
        INSERT INTO arrivals (n, queue, key)
        SELECT nextval('numbers'), q, u.key FROM unnest(touched) AS u(key);
    ELSIF r.keyed THEN
        WITH news AS (
            DELETE FROM arrivals a WHERE a.ctid = ANY (array(
                SELECT o.ctid FROM arrivals o WHERE o.queue = q AND o.n >= r.arrived
                ORDER BY o.n LIMIT 1000 FOR UPDATE
            )) RETURNING a.key, a.n, a.rate, a.first
        ) SELECT array_agg(s.key ORDER BY s.n), array_agg(s.rate::text ORDER BY s.n),
            array_agg(s.first ORDER BY s.n), max(s.n)
        INTO more, brought, firsts, last_n FROM news s;
        IF coalesce(cardinality(more), 0) < 1000 THEN
            begin_at := r.ended;
            r.arrived := r.ended;
        ELSE
            -- Others have arrived, and jobs of the same keys with lower numbers may be among them.
            begin_at := 0;
            firsts := array_fill(0::bigint, ARRAY[cardinality(more)]);
            r.arrived := least(r.ended, last_n);
        END IF;
        firsts := array_fill(begin_at, ARRAY[cardinality(touched)]) || firsts;
        touched := touched || more;
        IF NOT r.own AND (rated OR cardinality(array_remove(brought, NULL)) > 0) THEN
            r.own := true;
            r.own_after := coalesce(last_grant(q), 0);
        END IF;
        IF r.own THEN
            PERFORM bring_rates(r, more, brought, firsts[cardinality(firsts) - cardinality(more) + 1:]);
        END IF;
        SELECT array_agg(k.key ORDER BY k.open_at), CASE WHEN count(*) = 1000 THEN max(k.open_at) END
        INTO more, open_until FROM (
            SELECT o.key, o.open_at FROM keys o
            WHERE o.queue = q AND o.place = 2 AND o.open_at BETWEEN r.passed AND horizon
            ORDER BY o.open_at LIMIT 1000
        ) k;
        touched := touched || more;
        SELECT array_agg(k.key ORDER BY k.open_at), CASE WHEN count(*) = fading THEN max(k.open_at) END
        INTO more, fade_until FROM (
            SELECT o.key, o.open_at FROM keys o
            WHERE o.queue = q AND o.place = 4 AND o.open_at BETWEEN r.passed AND t
            ORDER BY o.open_at LIMIT fading
        ) k;
        touched := touched || more;
        -- Keys wait for a time after the time of the exchange that says so, which may be a little before this,
        -- but not before what was noted.
        r.passed := greatest(r.passed, least(noted.seen, open_until, fade_until));
        IF cardinality(touched) > 0 THEN
            r := touch(r, t, horizon, touched, firsts);
        END IF;
    END IF;
    IF want > 0 AND NOT r.paused THEN
        IF number < head.next THEN
            PERFORM look_back(q, number);
            head.seq := 0;
        ELSIF looks_ahead AND number > head.seq + 10000 THEN
            PERFORM look_ahead(head, floor, mine);
        END IF;
        -- Jobs without a key get half of it where there are others.
        SELECT * INTO part FROM claim_straight(
            r, head.seq, t, horizon, CASE WHEN r.keyed THEN (want + 1) / 2 ELSE want END, lease, number
        );
        r := part.r;
        got := part.ids;
        slots := part.starts;
        stopped := part.stopped;
        unkeyed := cardinality(got);
        IF unkeyed > 0 THEN
            ids := got;
            payloads := part.payloads;
            traces := part.traces;
            attempts := part.attempts;
            errors := part.errors;
            ages := part.ages;
            waits := part.waits;
        END IF;
        IF r.keyed AND cardinality(got) < want THEN
            SELECT * INTO part FROM claim_keyed(r, t, horizon, want - cardinality(got), lease, number);
            r := part.r;
            got := got || part.ids;
            slots := slots || part.starts;
            stopped := stopped OR part.stopped;
            -- What jobs with keys have left.
            IF NOT stopped AND unkeyed = (want + 1) / 2 AND cardinality(got) < want THEN
                SELECT * INTO part FROM claim_straight(
                    r, head.seq, t, horizon, want - cardinality(got), lease, number
                );
                r := part.r;
                got := got || part.ids;
                slots := slots || part.starts;
                stopped := part.stopped;
            END IF;
        END IF;
        IF cardinality(got) > 0 THEN
            token := number;
            INSERT INTO leases (n, queue, until, left_over, at, ids)
            VALUES (number, q, t + lease, cardinality(got), (SELECT max(s) FROM unnest(slots) s), got);
            r.put_off := false;
        ELSIF stopped AND NOT r.put_off THEN
            r.put_off := true;
            r.limited_queue := r.limited_queue + 1;
        END IF;
    END IF;
    IF locked AND r IS DISTINCT FROM was THEN
        UPDATE queues SET slot = r.slot, last = r.last, log = r.log, hold = r.hold, put_off = r.put_off,
            keyed = r.keyed, own = r.own, own_after = r.own_after, limited_queue = r.limited_queue, limited_key = r.limited_key,
            ended = r.ended, floor = r.floor, floor_by = r.floor_by, arrived = r.arrived, ring = r.ring,
            passed = r.passed
        WHERE queue = q;
    END IF;

    IF NOT r.paused THEN
        IF stopped THEN
            again := greatest(t, opens(r.hold, r.slot, r.log, r.quota, r.period, r.burst));
        ELSIF cardinality(got) >= want THEN
            again := t;
        ELSE
            SELECT j.due INTO next FROM jobs j WHERE j.queue = q AND j.due IS NOT NULL
            ORDER BY j.due LIMIT 1;
            SELECT least(next, min(f.at)) INTO next FROM (
                (SELECT l.until AS at FROM leases l WHERE l.queue = q ORDER BY l.until LIMIT 1)
                UNION ALL
                (SELECT o.open_at FROM keys o WHERE o.queue = q AND o.place = 2 AND o.open_at >= r.passed
                    ORDER BY o.open_at LIMIT 1)
            ) f;
            IF r.keyed THEN
                PERFORM FROM keys k WHERE k.queue = q AND k.place = 1 AND k.turn >= r.ring
                ORDER BY k.turn LIMIT 1;
                again := CASE WHEN FOUND THEN t END;
            END IF;
            again := least(again, fall_asleep(q, head.seq, r.arrived, t));
        END IF;
        IF late THEN
            again := t;
        END IF;
        next := least(next, again) - t;
        IF next < 0 THEN
            next := 0;
        END IF;
    END IF;
    IF cardinality(e_ids) > 0 THEN
        SELECT * INTO part FROM fold(q);
        PERFORM tally(q, part.n, gone, fewer + part.dropped, greatest(t, part.last));
    END IF;
    limited := ARRAY[r.limited_queue, r.limited_key];
    paused := r.paused;
    IF cardinality(got) = cardinality(ids) THEN
        IF r.quota IS NOT NULL OR r.hold > t THEN
            starts := array(SELECT greatest(0, s - t) FROM unnest(slots) s);
        END IF;
        slotted := array_fill(r.quota IS NOT NULL, ARRAY[cardinality(got)]);
    ELSIF cardinality(got) > 0 THEN
        -- There are jobs with keys among them.
        SELECT array_agg(f.id), array_agg(f.name), array_agg(f.payload),
            array_agg(f.trace), array_agg(f.attempt), array_agg(array_to_json(f.errors)::text),
            array_agg(greatest(0, f.at - t)), array_agg(f.slotted),
            array_agg(greatest(0, t - f.enqueued)), array_agg(greatest(0, t - f.since))
        INTO ids, keys, payloads, traces, attempts, errors, starts, slotted, ages, waits
        FROM (
            SELECT j.*, u.at, coalesce(j.long_key, j.key) AS name,
                r.quota IS NOT NULL OR (r.key_quota IS NOT NULL AND j.key <> '') OR (
                    r.own AND coalesce((
                        SELECT k.rate IS NOT NULL FROM keys k
                        WHERE k.queue = q AND k.key = j.key ORDER BY k.turn DESC LIMIT 1
                    ), false)
                ) AS slotted
            FROM unnest(got, slots) WITH ORDINALITY AS u(id, at, i) JOIN jobs j ON j.id = ANY (ARRAY[u.id])
            ORDER BY u.at, u.i
        ) f;
    END IF;
END $$;

-- Notes the time, so that a clock that is set back is noticed.
CREATE FUNCTION {schema}.note_time(q int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c {schema}.clocks;
    now bigint;
BEGIN
    SELECT * INTO c FROM clocks WHERE queue = q;
    now := micros() + c.ahead;
    IF now < c.seen OR now > c.seen + 1000000 THEN
        SELECT * INTO c FROM clocks WHERE queue = q FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            UPDATE clocks SET ahead = c.ahead + greatest(0, c.seen - now), seen = greatest(c.seen, now)
            WHERE queue = q;
        END IF;
    END IF;
END $$;

-- Notes that a process may wait to be notified. An enqueue that has not seen the note has committed
-- before it was written, so a last look finds its job: then the answer is `t`. While one is under way, or
-- a transaction is open that has made its constraints immediate, nobody waits for it: then the answer
-- is a little later.
CREATE FUNCTION {schema}.fall_asleep(q int, head bigint, from_n bigint, t bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM sleepers s WHERE s.queue = q AND s.asleep;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    IF NOT pg_try_advisory_xact_lock('sleepers'::regclass::oid::int, q) THEN
        RETURN t + 10000;
    END IF;
    UPDATE sleepers SET asleep = true WHERE queue = q AND NOT asleep;
    PERFORM FROM jobs j WHERE j.queue = q AND j.key = '' AND j.placed AND j.token = 0 AND j.rank < 0
    LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        PERFORM FROM jobs j
        WHERE j.queue = q AND j.key = '' AND j.placed AND j.token = 0 AND (j.rank, j.seq) >= (0::smallint, head)
        LIMIT 1 FOR UPDATE SKIP LOCKED;
    END IF;
    IF FOUND THEN
        RETURN t;
    END IF;
    PERFORM FROM arrivals a WHERE a.queue = q AND a.n >= from_n LIMIT 1;
    RETURN CASE WHEN FOUND THEN t END;
END $$;

-- A transaction that is more isolated would go on after it has waited for the queue's row, and not see what those
-- have left that had it meanwhile.
CREATE FUNCTION {schema}.demand_committed() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'the transaction is %', current_setting('transaction_isolation') USING ERRCODE = 'PQ001';
    END IF;
END $$;
