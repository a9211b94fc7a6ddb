SELECT EXISTS (
    SELECT 1 FROM perf_queue_dead
    WHERE queue = ?1 AND id_hi = ?2 AND id_lo = ?3
)
