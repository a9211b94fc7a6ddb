DELETE FROM perf_queue_clock
WHERE queue = ?1 AND NOT EXISTS (
    SELECT 1 FROM perf_queue_past AS p WHERE p.queue = ?1 AND perf_queue_clock.wall IN (p.closed, p.changed)
)
