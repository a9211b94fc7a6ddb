-- A foreign key to the table itself, and triggers that run when the statement ends (64: INSTEAD OF,
-- 2: BEFORE, 1: FOR EACH ROW), see rows that come later in the statement.
SELECT EXISTS (
    SELECT FROM pg_constraint
    WHERE contype = 'f' AND conrelid = $1::regclass AND confrelid = conrelid
) OR EXISTS (
    SELECT FROM pg_trigger
    WHERE tgrelid = $1::regclass AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 3 <> 3
)
