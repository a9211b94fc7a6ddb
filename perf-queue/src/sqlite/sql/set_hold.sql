INSERT INTO perf_queue_state (queue, hold, held) VALUES (?, ?, ?)
ON CONFLICT (queue) DO UPDATE
SET held = iif(excluded.hold > hold, excluded.held, held), hold = max(hold, excluded.hold)
