SELECT id_hi, id_lo, attempts, enqueued, died, payload, errors
FROM perf_queue_dead
WHERE queue = ?1
ORDER BY seq
LIMIT ?2
