INSERT INTO perf_queue_past (queue, changed) VALUES (?1, ?2)
ON CONFLICT (queue) DO UPDATE SET closed = NULL
