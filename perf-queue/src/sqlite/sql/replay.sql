INSERT INTO perf_queue_job
    (queue, id_hi, id_lo, priority, enqueued, payload, trace)
SELECT queue, id_hi, id_lo, priority, enqueued, payload, trace
FROM perf_queue_dead
WHERE queue = ?1 AND id_hi = ?2 AND id_lo = ?3
ORDER BY seq
LIMIT 1
