use std::fmt::Debug;

use sqlx::Connection;
use sqlx::postgres::PgPool;
use sqlx::postgres::types::{PgInterval, PgRange};
use sqlx::types::chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use sqlx::types::ipnetwork::IpNetwork;
use sqlx::types::{BigDecimal, Decimal, Json, Uuid};

use super::*;
use crate::engine::copy::hold_types;

const TYPES: &str = r#"CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE TYPE "Odd" AS ENUM ('happy', 'sad');
CREATE TYPE pair AS (a int, b int);
CREATE TYPE moods AS RANGE (subtype = mood);
CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
CREATE DOMAIN positive AS int NOT NULL CHECK (VALUE > 0);"#;

#[derive(Debug, Clone, sqlx::Type)]
#[sqlx(type_name = "mood", rename_all = "lowercase")]
enum Mood {
    Happy,
    Sad,
}

#[derive(Debug, Clone, sqlx::Type)]
#[sqlx(type_name = "\"Odd\"", rename_all = "lowercase")]
enum Odd {
    Happy,
    Sad,
}

#[derive(Debug, Clone, sqlx::Type)]
#[sqlx(type_name = "citext")]
struct Citext(String);

#[derive(Debug, Clone, sqlx::Type)]
#[sqlx(type_name = "pair")]
struct Pair {
    a: i32,
    b: i32,
}

struct Row<T> {
    id: i32,
    value: Option<T>,
}

impl<T> BulkValues<Postgres> for Row<T>
where
    T: for<'q> Encode<'q, Postgres> + Type<Postgres>,
{
    fn values<S: ValueSink<Postgres>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
        sink.push(self.id)?;
        sink.push(self.value.as_ref())
    }
}

fn columns(cast: Option<&'static str>) -> [Column; 2] {
    let value = Column::new("v");
    let value = match cast {
        Some(cast) => value.pg_type(cast),
        None => value,
    };
    [Column::new("id"), value]
}

fn rows<T: Clone>(values: &[Option<T>]) -> Vec<Row<T>> {
    let values = values.iter().cloned().zip(0..);
    values.map(|(value, id)| Row { id, value }).collect()
}

async fn columns_of(pool: &PgPool, ty: &str) {
    for table in ["copied", "inserted"] {
        execute(
            pool,
            &format!("DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id int, v {ty})"),
        )
        .await;
    }
    // It goes by the texts, and they now name other tables.
    let mut conn = pool.acquire().await.unwrap();
    conn.clear_cached_statements().await.unwrap();
}

/// Inserts the rows one by one, as an ordinary statement does.
async fn insert<T>(pool: &PgPool, cast: Option<&str>, rows: Vec<Row<T>>) -> sqlx::Result<()>
where
    T: for<'q> Encode<'q, Postgres> + Type<Postgres> + Send + 'static,
{
    let cast = cast.map(|cast| format!("::{cast}")).unwrap_or_default();
    for row in rows {
        let sql = format!("INSERT INTO inserted VALUES ($1, $2{cast})");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(row.id).bind(row.value);
        query.execute(pool).await?;
    }
    Ok(())
}

/// Checks that both ways store the values alike in a column of the type.
async fn alike<T>(pool: &PgPool, ty: &str, cast: Option<&'static str>, values: Vec<T>)
where
    T: for<'q> Encode<'q, Postgres> + Type<Postgres> + Clone + Debug + Send + 'static,
{
    columns_of(pool, ty).await;
    let mut values: Vec<Option<T>> = values.into_iter().map(Some).collect();
    if ty != "positive" {
        values.insert(1, None);
    }
    let table = table("copied", &columns(cast));
    let copied = copy(pool, &table, &rows(&values), usize::MAX).await;
    let copied = copied.unwrap_or_else(|error| panic!("{ty}: {error}"));
    assert_eq!(copied, values.len() as u64, "{ty}");
    let inserted = insert(pool, cast, rows(&values)).await;
    inserted.unwrap_or_else(|error| panic!("{ty}: {error}"));
    let text = if ty == "json" { "v::jsonb" } else { "v::text" };
    let both = format!(
        "SELECT count(*) FROM copied c JOIN inserted i USING (id)
         WHERE c.{text} IS NOT DISTINCT FROM i.{text}"
    );
    assert_eq!(count(pool, &both).await, values.len() as i64, "{ty}");
    let nulls = count(pool, "SELECT count(*) FROM copied WHERE v IS NULL").await;
    assert_eq!(nulls, i64::from(ty != "positive"), "{ty}");
}

#[tokio::test]
async fn numbers_and_bytes_arrive_as_an_insert_stores_them() {
    let Some(pool) = pool(TYPES).await else {
        return;
    };
    let p = &pool;
    alike(p, "smallint", None, vec![i16::MIN, 0, i16::MAX]).await;
    alike(p, "integer", None, vec![i32::MIN, 0, i32::MAX]).await;
    alike(p, "integer", Some("INT4"), vec![1, 2]).await;
    alike(p, "bigint", None, vec![i64::MIN, 0, i64::MAX]).await;
    alike(p, "real", None, vec![f32::MIN, 0.1, f32::NAN]).await;
    let doubles = vec![f64::MIN, -0.0, f64::INFINITY, f64::NAN];
    alike(p, "double precision", None, doubles).await;
    alike(p, "boolean", None, vec![true, false]).await;
    alike(p, r#""char""#, None, vec![b'a' as i8, b'z' as i8]).await;
    alike(p, "bytea", None, vec![vec![], vec![0_u8, 255, 10]]).await;
    alike(p, "uuid", None, vec![Uuid::nil(), Uuid::from_u128(7)]).await;
    let decimals = ["0", "-1.50", "12345.678", "99999999.99"];
    let numeric: Vec<Decimal> = decimals.map(|d| d.parse().unwrap()).to_vec();
    alike(p, "numeric", None, numeric.clone()).await;
    alike(p, "numeric(10, 2)", None, numeric).await;
    let big: Vec<BigDecimal> = ["1e30", "-0.000001"].map(|d| d.parse().unwrap()).to_vec();
    alike(p, "numeric", None, big).await;
    let ranges = vec![PgRange::from(1..5), PgRange::from(..=7)];
    alike::<PgRange<i32>>(p, "int4range", None, ranges).await;
}

#[tokio::test]
async fn texts_arrive_as_an_insert_stores_them() {
    let Some(pool) = pool(TYPES).await else {
        return;
    };
    let p = &pool;
    let texts: Vec<String> = ["", "abc", "\u{e9}\t\n\\N", "ab   "]
        .map(Into::into)
        .to_vec();
    for ty in ["text", "varchar", "varchar(5)", "char(5)"] {
        alike(p, ty, None, texts.clone()).await;
    }
    alike(p, "varchar(5)", Some("varchar"), texts.clone()).await;
    let mails: Vec<String> = vec!["a@b".into()];
    alike(p, "email", None, mails.clone()).await;
    alike(p, "positive", None, vec![1, 2]).await;
    alike(p, "email[]", None, vec![mails]).await;
    let docs: Vec<String> = vec![r#"{"a": [1, null]}"#.into()];
    alike(p, "json", Some("json"), docs).await;
    let docs = vec![Json(vec![Some("x"), None]), Json(vec![])];
    alike(p, "json", None, docs.clone()).await;
    alike(p, "jsonb", None, docs.clone()).await;
    alike(p, "jsonb[]", None, vec![docs]).await;
    let nets: Vec<IpNetwork> = ["10.0.0.1/32", "fe80::1/64"]
        .map(|n| n.parse().unwrap())
        .to_vec();
    alike(p, "inet", None, nets).await;
    // One for all tests, as an extension is there once in a database.
    let citext = "CREATE EXTENSION IF NOT EXISTS citext SCHEMA public";
    if let Err(error) = sqlx::raw_sql(citext).execute(p).await {
        eprintln!("citext is not tested: {error}");
        return;
    }
    execute(
        p,
        "SELECT set_config('search_path', current_schema || ', public', false)",
    )
    .await;
    let values: Vec<Citext> = texts.iter().cloned().map(Citext).collect();
    alike(p, "citext", None, values.clone()).await;
    alike(p, "text", None, values).await;
    alike(p, "citext", None, texts.clone()).await;
    alike(p, "citext", Some("citext"), texts).await;
}

#[tokio::test]
async fn times_arrive_as_an_insert_stores_them() {
    let Some(pool) = pool(TYPES).await else {
        return;
    };
    let p = &pool;
    let dates: Vec<NaiveDate> = ["1970-01-01", "2024-02-29"]
        .map(|d| d.parse().unwrap())
        .to_vec();
    alike(p, "date", None, dates).await;
    let times: Vec<NaiveTime> = ["00:00:00", "23:59:59.999999"]
        .map(|t| t.parse().unwrap())
        .to_vec();
    alike(p, "time", None, times).await;
    let moments = ["1969-12-31T23:59:59.5", "2024-02-29T12:00:00.123456"];
    let moments: Vec<NaiveDateTime> = moments.map(|m| m.parse().unwrap()).to_vec();
    alike(p, "timestamp", None, moments.clone()).await;
    alike(p, "timestamp(0)", None, moments.clone()).await;
    let moments: Vec<DateTime<Utc>> = moments.iter().map(NaiveDateTime::and_utc).collect();
    alike(p, "timestamptz", None, moments.clone()).await;
    alike(p, "timestamptz", Some("timestamptz"), moments).await;
    let interval = PgInterval {
        months: 14,
        days: -3,
        microseconds: 1_500_000,
    };
    alike(p, "interval", None, vec![interval]).await;
}

#[tokio::test]
async fn enums_and_arrays_arrive_as_an_insert_stores_them() {
    let Some(pool) = pool(TYPES).await else {
        return;
    };
    let p = &pool;
    alike(p, "mood", None, vec![Mood::Happy, Mood::Sad]).await;
    alike(p, "mood", Some("mood"), vec![Mood::Happy]).await;
    let labels: Vec<String> = vec!["happy".into(), "sad".into()];
    alike(p, "mood", Some("mood"), labels.clone()).await;
    alike(p, "\"Odd\"", None, vec![Odd::Happy, Odd::Sad]).await;
    alike(p, "\"Odd\"[]", None, vec![vec![Odd::Sad]]).await;
    alike(
        p,
        "mood[]",
        None,
        vec![vec![], vec![Mood::Sad, Mood::Happy]],
    )
    .await;
    alike(p, "mood[]", None, vec![vec![Some(Mood::Sad), None]]).await;
    alike(p, "integer[]", None, vec![vec![Some(1), None], vec![]]).await;
    alike(p, "text[]", None, vec![labels.clone(), vec![]]).await;
    alike(p, "varchar(5)[]", None, vec![labels, vec![]]).await;
    alike(p, "uuid[]", None, vec![vec![Uuid::nil()]]).await;
}

async fn refusal<T>(pool: &PgPool, ty: &str, cast: Option<&'static str>, value: T) -> String
where
    T: for<'q> Encode<'q, Postgres> + Type<Postgres>,
{
    columns_of(pool, ty).await;
    let mut conn = pool.acquire().await.unwrap();
    let row = Row {
        id: 1,
        value: Some(value),
    };
    let plan = plan(&mut conn, &table("copied", &columns(cast)), &row).await;
    plan.expect_err(ty)
}

#[tokio::test]
async fn what_would_have_to_be_converted_is_refused_with_its_column() {
    let Some(pool) = pool(TYPES).await else {
        return;
    };
    let p = &pool;
    let said = refusal(p, "bigint", None, 1_i32).await;
    let expected =
        "column \"v\" is of type INT8, its values of type INT4, and COPY does not convert";
    assert_eq!(said, expected);
    let said = refusal(p, "uuid", Some("uuid"), "x").await;
    assert!(said.contains("TEXT, cast to uuid"), "{said}");
    for ty in [
        "jsonb", "json", "mood", "inet", "name", "xml", "bytea", "text[]",
    ] {
        refusal(p, ty, None, "x").await;
    }
    for (ty, cast) in [
        ("varchar(3)", "varchar(3)"),
        ("char(3)", "char"),
        ("text", "varchar"),
        ("jsonb", "jsonb"),
        ("mood", "text"),
    ] {
        refusal(p, ty, Some(cast), "x").await;
    }
    refusal(p, "json[]", None, vec![Json(1)]).await;
    refusal(p, "pair", None, Pair { a: 1, b: 2 }).await;
    refusal(p, "pair[]", None, vec![Pair { a: 1, b: 2 }]).await;
    refusal(p, "moods", None, "[happy,sad]").await;
    refusal(p, "bigint[]", None, vec![1_i32]).await;
    refusal(p, "text", None, Mood::Sad).await;
    refusal(p, "\"Odd\"", None, Mood::Sad).await;
    refusal(p, "timestamp", None, Utc::now()).await;
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_refused_by_the_same_code() {
    let Some(pool) = pool(TYPES).await else {
        return;
    };
    async fn codes<T>(pool: &PgPool, ty: &str, cast: Option<&'static str>, value: T) -> [String; 2]
    where
        T: for<'q> Encode<'q, Postgres> + Type<Postgres> + Clone + Send + 'static,
    {
        columns_of(pool, ty).await;
        let rows = || rows(&[Some(value.clone())]);
        let table = table("copied", &columns(cast));
        let copied = copy(pool, &table, &rows(), usize::MAX).await.unwrap_err();
        let inserted = insert(pool, cast, rows()).await.unwrap_err();
        [copied, inserted].map(|e| e.as_database_error().unwrap().code().unwrap().into_owned())
    }
    let text = |s: &str| s.to_owned();
    let p = &pool;
    assert_eq!(
        codes(p, "varchar(3)", None, text("long")).await,
        ["22001"; 2]
    );
    assert_eq!(codes(p, "text", None, text("a\0")).await, ["22021"; 2]);
    assert_eq!(codes(p, "email", None, text("none")).await, ["23514"; 2]);
    assert_eq!(
        codes(p, "email[]", None, vec![text("none")]).await,
        ["23514"; 2]
    );
    assert_eq!(codes(p, "positive", None, 0).await, ["23514"; 2]);
    assert_eq!(
        codes(p, "mood", Some("mood"), text("angry")).await,
        ["22P02"; 2]
    );
    assert_eq!(
        codes(p, "json", Some("json"), text("{")).await,
        ["22P02"; 2]
    );
    let large: Decimal = "123456".parse().unwrap();
    assert_eq!(codes(p, "numeric(4, 1)", None, large).await, ["22003"; 2]);
}

#[tokio::test]
async fn the_description_costs_one_question_and_is_held_against_changes() {
    let Some(pool) = pool("CREATE TABLE t (v bigint)").await else {
        return;
    };
    let sql = "SELECT \"v\" FROM \"t\" LIMIT 0";
    let mut conn = pool.acquire().await.unwrap();
    let first = column_types(&mut conn, sql).await.unwrap();
    hold_types(&mut conn, sql).await.unwrap();
    let alter = "ALTER TABLE t ALTER v TYPE double precision";
    sqlx::raw_sql(alter).execute(&mut *conn).await.unwrap();
    // The server was not asked again.
    assert_eq!(column_types(&mut conn, sql).await.unwrap(), first);
    let error = hold_types(&mut conn, sql).await.unwrap_err();
    let code = error
        .as_database_error()
        .unwrap()
        .code()
        .unwrap()
        .into_owned();
    assert_eq!(code, "0A000");
    conn.clear_cached_statements().await.unwrap();
    assert_ne!(column_types(&mut conn, sql).await.unwrap(), first);
    hold_types(&mut conn, sql).await.unwrap();
}

enum Either {
    Number(i64),
    Text(&'static str),
    Nothing,
}

impl BulkValues<Postgres> for Either {
    fn values<S: ValueSink<Postgres>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
        match self {
            Self::Number(n) => sink.push(n),
            Self::Text(text) => sink.push(text),
            Self::Nothing => Ok(()),
        }
    }
}

#[test]
fn a_row_unlike_the_others_is_refused_by_its_place() {
    let long = vec![<i64 as Type<Postgres>>::type_info()];
    let plan = CopyIn::plan(&[Column::new("v")], &long, &long).unwrap();
    for (odd, said) in [
        (
            Either::Text("x"),
            "value 1 of the row is of type TEXT, in another row it is INT8",
        ),
        (Either::Nothing, "the row gave 0 values for 1 columns"),
    ] {
        let rows = [Either::Number(1), Either::Number(2), odd];
        let error = plan.encode(&indexed(&rows), usize::MAX).unwrap_err();
        assert_eq!((error.offset, error.source.to_string().as_str()), (2, said));
    }
    let rows = [Either::Number(1), Either::Number(2), Either::Number(3)];
    let (data, taken) = plan.encode(&indexed(&rows), 1).unwrap();
    // Header, one row of one field of eight bytes, trailer.
    assert_eq!((data.len(), taken), (19 + 2 + 4 + 8 + 2, 1));
    let (_, taken) = plan.encode(&indexed(&rows), 19 + 2 * 14).unwrap();
    assert_eq!(taken, 2);
}
