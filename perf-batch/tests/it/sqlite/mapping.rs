use std::future::Future;
use std::pin::Pin;

use perf_batch::{
    BatchError, BulkInsert, BulkRow, BulkValues, Column, OnConflict, OnRowError, Table, ValueSink,
};
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::{Acquire, AssertSqlSafe, Sqlite, SqlitePool, Transaction};

use super::{ANSWERS, Answer, COUNT, adds_up, answers};
use crate::support::lite::Lite;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

#[tokio::test]
async fn any_acquire_will_do_and_the_future_can_be_spawned() {
    let lite = Lite::new(ANSWERS).await;
    let insert = BulkInsert::<Answer>::new();
    let mut conn = lite.pool.acquire().await.unwrap();
    insert.execute(&mut conn, answers(1, 3)).await.unwrap();
    insert.execute(&mut *conn, answers(2, 3)).await.unwrap();
    let pool = lite.pool.clone();
    let report = tokio::spawn(async move { insert.execute(&pool, answers(3, 3)).await })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(report.written, 3);

    struct OtherPool(SqlitePool);
    impl<'a> Acquire<'a> for &'_ OtherPool {
        type Database = Sqlite;
        type Connection = PoolConnection<Sqlite>;

        fn acquire(self) -> BoxFuture<'a, sqlx::Result<Self::Connection>> {
            Box::pin(self.0.acquire())
        }

        fn begin(self) -> BoxFuture<'a, sqlx::Result<Transaction<'a, Sqlite>>> {
            Acquire::begin(&self.0)
        }
    }
    let other = OtherPool(lite.pool.clone());
    let report = BulkInsert::<Answer>::new().execute(&other, answers(5, 3));
    assert_eq!(report.await.unwrap().written, 3);

    fn generic<'a, A>(conn: A) -> impl Future<Output = u64> + Send
    where
        A: perf_batch::Source<'a, Database = Sqlite>,
    {
        let execute = BulkInsert::<Answer>::new().execute(conn, answers(4, 3));
        async move { execute.await.unwrap().written }
    }
    fn send<T: Send>(value: T) -> T {
        value
    }
    assert_eq!(send(generic(&lite.pool)).await, 3);
    assert_eq!(lite.count(COUNT).await, 15);
}

#[tokio::test]
async fn a_row_that_cannot_be_encoded_is_a_row_like_any_other() {
    #[derive(Debug)]
    struct Odd(i64);
    impl BulkValues<Sqlite> for Odd {
        fn values<S: ValueSink<Sqlite>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
            match self.0 {
                n if n % 7 == 0 => Err("sevens are not encoded".into()),
                n if n % 11 == 0 => Ok(()),
                n => sink.push(n),
            }
        }
    }
    let lite = Lite::new("CREATE TABLE odd (n INTEGER CHECK (n % 13 <> 0))").await;
    let table = Table::new("odd").column(Column::new("n"));
    let insert = BulkInsert::<Odd>::into_table(table).on_row_error(OnRowError::Skip);
    let report = insert
        .execute(&lite.pool, (1..=500).map(Odd).collect())
        .await
        .unwrap();
    let failed: Vec<i64> = report.failed.iter().map(|f| f.row.0).collect();
    let bad = |n: &i64| n % 7 == 0 || n % 11 == 0 || n % 13 == 0;
    assert_eq!(failed, (1..=500).filter(bad).collect::<Vec<_>>());
    assert!(adds_up(&report));
    let by_row = |n: i64| {
        let failure = report.failed.iter().find(|f| f.row.0 == n);
        let failure = failure.unwrap();
        (failure.code.clone(), failure.message.clone())
    };
    assert_eq!(by_row(7), (None, "sevens are not encoded".into()));
    assert_eq!(
        by_row(11),
        (None, "the row gave 0 values for 1 columns".into())
    );
    assert_eq!(by_row(13).0.as_deref(), Some("275"));

    let error = insert
        .on_row_error(OnRowError::Abort)
        .execute(&lite.pool, vec![Odd(1), Odd(14)])
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        BatchError::Row {
            index: 1,
            code: None,
            ..
        }
    ));
}

#[tokio::test]
async fn odd_values_arrive_as_they_were() {
    let lite = Lite::new(ANSWERS).await;
    let answer = |question_id, answer: String, points| Answer {
        user_id: i64::MIN,
        question_id,
        answer,
        points,
    };
    let rows = vec![
        answer(i64::MIN, "\0".into(), Some(i32::MIN)),
        answer(-1, String::new(), Some(i32::MAX)),
        answer(0, "a\0b'\"?1$1\u{10ffff}".into(), None),
        answer(i64::MAX, "x".repeat(3 << 20), Some(0)),
    ];
    BulkInsert::<Answer>::new()
        .on_conflict(OnConflict::Update)
        .execute(&lite.pool, rows.clone())
        .await
        .unwrap();
    let saved: Vec<(i64, i64, String, Option<i32>)> =
        sqlx::query_as("SELECT * FROM answers ORDER BY question_id")
            .fetch_all(&lite.pool)
            .await
            .unwrap();
    let given: Vec<_> = rows
        .into_iter()
        .map(|a| (a.user_id, a.question_id, a.answer, a.points))
        .collect();
    assert_eq!(saved, given);
}

#[tokio::test]
async fn wide_rows_stay_below_the_limit_of_values() {
    struct Wide(i64);
    impl BulkValues<Sqlite> for Wide {
        fn values<S: ValueSink<Sqlite>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
            (0..300).try_for_each(|n| sink.push(self.0 + n))
        }
    }
    let lite = Lite::new("").await;
    let columns: Vec<String> = (0..300).map(|n| format!("c{n}")).collect();
    let schema = format!("CREATE TABLE wide ({})", columns.join(", "));
    sqlx::raw_sql(AssertSqlSafe(schema))
        .execute(&lite.pool)
        .await
        .unwrap();
    let table = columns.into_iter().fold(Table::new("wide"), |table, name| {
        table.column(Column::new(name))
    });
    let report = BulkInsert::into_table(table)
        .execute(&lite.pool, (0..300).map(Wide).collect())
        .await
        .unwrap();
    // begin, 4 of 64 rows (128 would be 38,400 values), 32, 8, 4, commit
    assert_eq!((report.written, report.statements), (300, 9));
}

#[tokio::test]
async fn odd_names_are_quoted() {
    #[derive(BulkRow)]
    #[bulk(table = "main.\"order.items\"")]
    struct Item {
        #[bulk(key)]
        r#type: i64,
        #[bulk(rename = "say \"hi\"")]
        say: String,
        #[bulk(skip)]
        _cache: Vec<u8>,
    }
    let lite =
        Lite::new(r#"CREATE TABLE "order.items" ("type" INTEGER PRIMARY KEY, "say ""hi""" TEXT)"#)
            .await;
    let item = |n| Item {
        r#type: n,
        say: "hello".into(),
        _cache: Vec::new(),
    };
    let insert = BulkInsert::<Item>::new().on_conflict(OnConflict::Update);
    let report = insert
        .execute(&lite.pool, vec![item(1), item(2)])
        .await
        .unwrap();
    assert_eq!(report.written, 2);
}

#[tokio::test]
async fn a_connection_keeps_a_bounded_number_of_statements() {
    let lite = Lite::with_connections(ANSWERS, 1).await;
    let insert = BulkInsert::<Answer>::new();
    for n in 1..=300 {
        insert.execute(&lite.pool, answers(n, n)).await.unwrap();
    }
    let conn = lite.pool.acquire().await.unwrap();
    let cached = sqlx::Connection::cached_statements_size(&*conn);
    assert!(cached <= 18, "{cached} statements");
}

#[tokio::test]
async fn batches_of_one_size_become_one_statement() {
    let lite = Lite::with_connections(ANSWERS, 1).await;
    let insert = BulkInsert::<Answer>::new();
    let mut requests = Vec::new();
    for user_id in 0..4 {
        let report = insert.execute(&lite.pool, answers(user_id, 100)).await;
        requests.push(report.unwrap().statements);
    }
    // 64 + 32 + 4 rows between BEGIN and COMMIT, and then all at once.
    assert_eq!(requests, [5, 1, 1, 1]);
    assert_eq!(lite.count(COUNT).await, 400);
}
