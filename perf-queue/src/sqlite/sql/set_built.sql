INSERT INTO perf_queue_built (queue, rules) VALUES (?1, ?2)
ON CONFLICT (queue) DO UPDATE SET rules = excluded.rules
