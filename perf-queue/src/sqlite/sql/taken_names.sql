SELECT name, id_hi, id_lo
FROM perf_queue_unique
WHERE queue = ?1 AND until > ?2 AND name IN (SELECT value FROM json_each(?3))
