SELECT
    pg_current_xact_id()::text,
    (SELECT system_identifier::text FROM pg_control_system()),
    left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
