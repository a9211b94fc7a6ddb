-- $1: the table; $2: its key's columns; $3: whether rows that are there may change; $4: whether that
-- is all that happens to them, by an UPDATE, which goes through them in an order of its own.
-- 2: rows must go in one by one; 1: in the order of the input; 0: in any order.
WITH target AS (
    SELECT oid, relkind, relhasrules FROM pg_class WHERE oid = $1::regclass
), family AS (
    SELECT oid FROM target
    UNION SELECT relid FROM target, pg_partition_tree(target.oid)
    UNION SELECT relid FROM target, pg_partition_ancestors(target.oid)
), triggers AS (
    -- 1: FOR EACH ROW, 2: BEFORE. What runs later, or does not see what its own statement changed,
    -- sees rows that come later in the statement, or misses those before.
    SELECT tgtype & 3 = 3 AND provolatile = 'v' AS as_singly
    FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE tgrelid IN (TABLE family) AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 20 <> 0
), keys AS (
    SELECT confrelid, (
        SELECT bool_and(attname = ANY ($2)) FROM pg_attribute
        WHERE attrelid = confrelid AND attnum = ANY (confkey)
    ) AS to_key, conrelid
    FROM pg_constraint WHERE contype = 'f'
        AND (conrelid IN (TABLE family) OR confrelid IN (TABLE family))
), uniques AS (
    SELECT indimmediate FROM pg_index
    WHERE indrelid IN (TABLE family) AND (indisunique OR indisexclusion)
        AND (indexprs IS NOT NULL OR EXISTS (
            SELECT FROM pg_attribute
            WHERE attrelid = indrelid AND attnum = ANY (indkey) AND attname <> ALL ($2)
        ))
)
SELECT CASE
    -- A view, a table elsewhere, a rule: what is behind it is not looked at.
    WHEN EXISTS (SELECT FROM target WHERE relkind IN ('v', 'f') OR relhasrules) THEN 2
    -- Foreign keys are checked when the statement ends: those to the table itself, those to what a
    -- trigger writes, and those of others to columns that change.
    WHEN EXISTS (
        SELECT FROM keys WHERE conrelid IN (TABLE family) AND confrelid IN (TABLE family)
    ) THEN 2
    WHEN EXISTS (SELECT FROM triggers WHERE NOT as_singly) THEN 2
    WHEN EXISTS (SELECT FROM triggers)
        AND ($4 OR EXISTS (SELECT FROM keys WHERE conrelid IN (TABLE family))) THEN 2
    WHEN $3 AND EXISTS (
        SELECT FROM keys WHERE confrelid IN (TABLE family) AND NOT to_key
    ) THEN 2
    WHEN $3 AND EXISTS (SELECT FROM uniques WHERE $4 OR NOT indimmediate) THEN 2
    -- A check whose function may look at the table.
    WHEN EXISTS (
        SELECT FROM pg_constraint JOIN pg_depend ON objid = pg_constraint.oid
            JOIN pg_proc ON pg_proc.oid = refobjid
        WHERE contype = 'c' AND conrelid IN (TABLE family) AND provolatile <> 'i'
            AND classid = 'pg_constraint'::regclass AND refclassid = 'pg_proc'::regclass
    ) THEN 2
    WHEN EXISTS (SELECT FROM triggers) OR $3 AND EXISTS (SELECT FROM uniques) THEN 1
    ELSE 0
END
