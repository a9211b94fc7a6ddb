DELETE FROM {schema}.dead
WHERE queue = $1 AND ($2 = 0::bigint OR died <= (SELECT {schema}.micros()) - $2)
