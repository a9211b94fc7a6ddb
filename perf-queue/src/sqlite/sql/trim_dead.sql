DELETE FROM perf_queue_dead
WHERE queue = ?1 AND seq <= (
    SELECT seq FROM perf_queue_dead WHERE queue = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2
)
