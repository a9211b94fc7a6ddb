DELETE FROM perf_queue_dead
WHERE seq = (
    SELECT seq FROM perf_queue_dead
    WHERE queue = ?1 AND id_hi = ?2 AND id_lo = ?3
    ORDER BY seq
    LIMIT 1
)
