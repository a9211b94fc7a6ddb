INSERT INTO perf_queue_unique (queue, name, id_hi, id_lo, until)
SELECT ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3
FROM json_each(?2)
WHERE true
ON CONFLICT (queue, name) DO UPDATE
SET id_hi = excluded.id_hi, id_lo = excluded.id_lo, until = excluded.until
