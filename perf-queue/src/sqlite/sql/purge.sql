DELETE FROM perf_queue_dead WHERE queue = ?1 AND died <= ?2
