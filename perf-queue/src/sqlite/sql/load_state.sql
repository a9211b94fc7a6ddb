SELECT s.rules, s.paused, s.hold, b.rules
FROM (SELECT ?1 AS queue) AS q
LEFT JOIN perf_queue_state AS s USING (queue)
LEFT JOIN perf_queue_built AS b USING (queue)
