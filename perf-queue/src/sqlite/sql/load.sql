SELECT seq, id_hi, id_lo, priority, attempt, enqueued, due, place, payload, trace, errors
FROM perf_queue_job
WHERE queue = ?1 AND seq BETWEEN ?2 AND ?3
ORDER BY seq
LIMIT ?4
