DELETE FROM {schema}.dead
WHERE queue = $1 AND ($2 = 0::bigint OR died <= (SELECT {schema}.clock($1)) - $2)
