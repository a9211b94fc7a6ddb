SELECT s.rules, s.paused, min(s.hold - ?2, s.hold - s.held), b.rules, p.queue IS NOT NULL, p.closed, p.changed,
    p.own, k.keys
FROM (SELECT ?1 AS queue) AS q
LEFT JOIN perf_queue_state AS s USING (queue)
LEFT JOIN perf_queue_built AS b USING (queue)
LEFT JOIN perf_queue_past AS p USING (queue)
LEFT JOIN perf_queue_keys AS k ON k.queue = q.queue AND k.closed = p.closed
