INSERT INTO perf_queue_past (queue, closed, changed) VALUES (?1, 0, ?2)
ON CONFLICT (queue) DO UPDATE SET closed = coalesce(closed, ?2)
