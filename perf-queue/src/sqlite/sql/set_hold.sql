INSERT INTO perf_queue_state (queue, hold) VALUES (?, ?)
ON CONFLICT (queue) DO UPDATE SET hold = max(hold, excluded.hold)
