INSERT INTO perf_queue (name, version) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET version = max(version, excluded.version)
RETURNING id, version
