-- About column $2 of table $1: its type, the expression of its default, whether a value of one's own
-- has to override it, whether each row goes into the table as it was given (no trigger changes it
-- before, and it is a table), and the types of the columns $3.
SELECT
    format_type(wanted.atttypid, wanted.atttypmod),
    CASE
        WHEN wanted.attidentity <> '' THEN
            format('nextval(%L::regclass)', pg_get_serial_sequence($1, wanted.attname))
        WHEN wanted.attgenerated = '' THEN (
            SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
            WHERE adrelid = wanted.attrelid AND adnum = wanted.attnum
        )
    END,
    wanted.attidentity = 'a',
    relkind IN ('r', 'p') AND NOT EXISTS (
        -- 1: FOR EACH ROW, 2: BEFORE, 4: INSERT.
        SELECT FROM pg_trigger
        WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 7 = 7 AND (
            tgrelid = wanted.attrelid
            OR tgrelid IN (SELECT relid FROM pg_partition_tree(wanted.attrelid))
        )
    ),
    ARRAY(
        SELECT format_type(atttypid, atttypmod)
        FROM unnest($3::text[]) WITH ORDINALITY AS given (name, at)
        LEFT JOIN pg_attribute ON attrelid = wanted.attrelid AND attname = name
        ORDER BY at
    )
FROM pg_attribute AS wanted JOIN pg_class ON pg_class.oid = wanted.attrelid
WHERE wanted.attrelid = $1::regclass AND wanted.attname = $2 AND NOT wanted.attisdropped
