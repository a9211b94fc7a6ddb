use std::error::Error;

use perf_batch::{BulkDatabase, Page, PageError, PageQuery};
use sqlx::{ColumnIndex, Database, Decode, Encode, Executor, FromRow, IntoArguments, Pool, Type};

use crate::statements;

/// Columns of many kinds, and one that is called like a part of the page.
#[derive(Debug, Clone, PartialEq, FromRow)]
struct Row {
    id: i64,
    name: String,
    total: Option<i64>,
    active: bool,
    photo: Option<Vec<u8>>,
    score: f64,
}

const ROWS: i64 = 45;

const TABLES: &str = "
    CREATE TABLE people (id bigint PRIMARY KEY, team bigint NOT NULL, name text NOT NULL,
        total bigint, active boolean NOT NULL, photo BLOB, score double precision NOT NULL);
    WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 45)
        INSERT INTO people SELECT id, 7, 'name ' || ((id * 13) % 10),
            CASE WHEN id % 2 = 0 THEN id * 100 END, id % 3 = 0, NULL, id / 4.0 FROM n;
    INSERT INTO people VALUES (100, 8, 'of another team', NULL, false, NULL, 0);
";

const PEOPLE: &str = "SELECT id, name, total, active, photo, score FROM people WHERE team = $1";

/// What all databases do.
async fn conforms<DB>(pool: &Pool<DB>, marker: &'static str)
where
    DB: BulkDatabase,
    for<'p> &'p Pool<DB>: Executor<'p, Database = DB>,
    for<'r> Row: FromRow<'r, DB::Row>,
    for<'r> (i64, String): FromRow<'r, DB::Row>,
    for<'r> (i64,): FromRow<'r, DB::Row>,
    for<'r> (Option<i64>,): FromRow<'r, DB::Row>,
    i64: for<'t> Encode<'t, DB> + for<'r> Decode<'r, DB> + Type<DB>,
    usize: ColumnIndex<DB::Row>,
    <DB as Database>::Arguments: IntoArguments<DB>,
{
    statements::listen();
    let people = || PageQuery::<DB>::new(PEOPLE, "name DESC, id").bind(7_i64);

    // Every page in turn is the whole, in order.
    let sql = sqlx::AssertSqlSafe(format!("{PEOPLE} ORDER BY name DESC, id"));
    let query = sqlx::query_as::<DB, Row>(sql);
    let all: Vec<Row> = query.bind(7_i64).fetch_all(pool).await.unwrap();
    assert_eq!(all.len() as i64, ROWS);
    for size in [1, 7, 20, 45, 46, u32::MAX] {
        let mut read = Vec::new();
        for number in 1.. {
            let page: Page<Row> = people().fetch(pool, number, size).await.unwrap();
            assert_eq!((page.total, page.number, page.size), (45, number, size));
            assert_eq!(page.pages(), 45_u64.div_ceil(size.into()));
            read.extend(page.items.clone());
            if !page.has_next() {
                break;
            }
            assert_eq!(page.items.len() as u32, size);
        }
        assert_eq!(read, all);
    }

    // Beyond the end, and as far as numbers go.
    for (number, size) in [(4, 20), (1 << 40, 20), (u64::MAX, 1), (u64::MAX, u32::MAX)] {
        let page: Page<Row> = people().fetch(pool, number, size).await.unwrap();
        assert_eq!(
            (page.items.len(), page.total),
            (0, 45),
            "page {number} of {size}"
        );
    }
    // No rows at all.
    let nobody = PageQuery::<DB>::new(PEOPLE, "id").bind(9_i64);
    let page: Page<Row> = nobody.fetch(pool, 1, 20).await.unwrap();
    assert_eq!((page.items.len(), page.total, page.pages()), (0, 0, 0));
    for (number, size) in [(0, 20), (1, 0)] {
        let error = people()
            .fetch::<Row, _>(pool, number, size)
            .await
            .unwrap_err();
        assert!(matches!(error, PageError::Zero { .. }), "{error}");
    }

    // Tuples; a query with a WITH of its own, one value twice, a comment and a semicolon at its
    // end; an order by an expression over the result's columns.
    let sql = "WITH mine AS (SELECT * FROM people WHERE team = $1)
        SELECT m.id AS person, upper(p.name) AS name FROM mine m JOIN people p ON p.id = m.id
        WHERE p.team = $1 AND m.id < $2 ORDER BY 1 -- whatever\n ; ";
    let query = PageQuery::<DB>::new(sql, "name || 'x', person DESC");
    let page: Page<(i64, String)> = query
        .bind(7_i64)
        .bind(21_i64)
        .fetch(pool, 2, 3)
        .await
        .unwrap();
    let expected = [(7, "NAME 1"), (14, "NAME 2"), (4, "NAME 2")];
    let expected = expected.map(|(id, name)| (id, name.to_owned()));
    assert_eq!(
        (page.items.as_slice(), page.total),
        (expected.as_slice(), 20)
    );

    // Rows of NULLs are rows, and the names of the columns are the query's business.
    let sql = "SELECT total, 'x' AS perf_total, NULL AS perf_there FROM people WHERE id IN (1, 3)";
    let query = PageQuery::<DB>::new(sql, "total");
    let page: Page<(Option<i64>,)> = query.fetch(pool, 1, 20).await.unwrap();
    assert_eq!(
        (page.items.as_slice(), page.total),
        ([(None,), (None,)].as_slice(), 2)
    );

    // One statement, however the page turns out.
    let before = statements::with(marker);
    let sql = sqlx::AssertSqlSafe(format!("{PEOPLE} /* {marker} */"));
    for (n, number) in [1, 2, 9].into_iter().enumerate() {
        let query = PageQuery::<DB>::new(sqlx::AssertSqlSafe(sql.0.clone()), "id").bind(7_i64);
        let page: Page<Row> = query.fetch(pool, number, 30).await.unwrap();
        assert_eq!(page.total, 45);
        assert_eq!(statements::with(marker), before + n + 1);
    }

    let broken = PageQuery::<DB>::new("SELECT nothing FROM nowhere", "1");
    let error = broken.fetch::<(i64,), _>(pool, 1, 20).await.unwrap_err();
    assert!(matches!(error, PageError::Database(_)), "{error}");
    assert!(error.source().is_some());
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_page_and_its_total_are_one_statement_on_sqlite() {
    let lite = crate::support::lite::Lite::new(TABLES).await;
    conforms(&lite.pool, "page on sqlite").await;

    let sql = "SELECT id FROM people WHERE team = ? AND id > ?";
    let query = PageQuery::new(sql, "id").bind(7).bind(10);
    let page: Page<(i64,)> = query.fetch(&lite.pool, 2, 3).await.unwrap();
    assert_eq!(
        (page.items.as_slice(), page.total),
        ([(14,), (15,), (16,)].as_slice(), 35)
    );
}

#[cfg(feature = "postgres")]
mod on_postgres {
    use super::*;
    use sqlx::error::BoxDynError;
    use sqlx::postgres::{PgArgumentBuffer, PgPool, PgTypeInfo};

    async fn pool() -> Option<PgPool> {
        let server = testkit::Postgres::shared().await?;
        let pool = PgPool::connect(&server.schema_url().await).await.unwrap();
        let tables = sqlx::AssertSqlSafe(TABLES.replace("BLOB", "bytea"));
        sqlx::raw_sql(tables).execute(&pool).await.unwrap();
        Some(pool)
    }

    #[tokio::test]
    async fn a_page_and_its_total_are_one_statement_on_postgres() {
        let Some(pool) = pool().await else {
            return;
        };
        conforms(&pool, "page on postgres").await;
    }

    /// Cannot be encoded.
    struct Unspeakable;

    impl Type<sqlx::Postgres> for Unspeakable {
        fn type_info() -> PgTypeInfo {
            <i64 as Type<sqlx::Postgres>>::type_info()
        }
    }

    impl Encode<'_, sqlx::Postgres> for Unspeakable {
        fn encode_by_ref(
            &self,
            _: &mut PgArgumentBuffer,
        ) -> Result<sqlx::encode::IsNull, BoxDynError> {
            Err("unspeakable".into())
        }
    }

    #[tokio::test]
    async fn a_value_that_cannot_be_encoded_is_an_error() {
        let Some(pool) = pool().await else {
            return;
        };
        let query = PageQuery::new(PEOPLE, "id").bind(Unspeakable).bind(7_i64);
        let error = query.fetch::<Row, _>(&pool, 1, 20).await.unwrap_err();
        let source = error.source().unwrap().to_string();
        assert!(source.contains("unspeakable"), "{source}");
    }

    #[tokio::test]
    async fn rows_of_a_page_come_by_an_index_that_fits_the_order() {
        let Some(pool) = pool().await else {
            return;
        };
        let more = "INSERT INTO people SELECT id, 7, 'name', NULL, false, NULL, 0
                FROM generate_series(1000, 30000) AS id;
            CREATE INDEX ON people (name, id);
            ANALYZE people";
        sqlx::raw_sql(more).execute(&pool).await.unwrap();
        let sql = format!(
            "EXPLAIN {}",
            include_str!("../../src/page/page.sql")
                .replace("{query}", "SELECT id, name FROM people")
                .replace("{order_by}", "name, id")
                .replace("${limit}", "20")
                .replace("${offset}", "40")
        );
        let plan: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_all(&pool)
            .await
            .unwrap();
        let plan = plan.join("\n");
        assert!(plan.contains("people_name_id_idx"), "{plan}");
        assert!(!plan.contains("CTE"), "{plan}");
    }
}
