SELECT
    pg_xact_status($1::text::xid8),
    (SELECT system_identifier::text FROM pg_control_system()),
    left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
