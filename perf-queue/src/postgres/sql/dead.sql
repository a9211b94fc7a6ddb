SELECT d.id, coalesce(d.long_key, d.key) AS key, d.payload, d.attempts,
    array_to_json(d.errors)::text AS errors, d.died - d.enqueued AS age
FROM {schema}.dead d
WHERE d.queue = $1
ORDER BY d.n
LIMIT $2
