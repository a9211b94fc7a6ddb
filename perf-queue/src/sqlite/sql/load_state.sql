SELECT s.rules, s.paused, s.hold, b.rules, p.queue IS NOT NULL, p.closed, p.changed, k.keys
FROM (SELECT ?1 AS queue) AS q
LEFT JOIN perf_queue_state AS s USING (queue)
LEFT JOIN perf_queue_built AS b USING (queue)
LEFT JOIN perf_queue_past AS p USING (queue)
LEFT JOIN perf_queue_keys AS k USING (queue)
