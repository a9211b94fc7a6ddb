INSERT INTO perf_queue (name, version, clean) VALUES (?1, ?2, 1)
ON CONFLICT (name) DO UPDATE SET version = max(version, excluded.version)
RETURNING id, version, clean
