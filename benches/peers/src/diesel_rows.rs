//! diesel's batch inserts: over tokio-postgres, and on SQLite.

use std::sync::Arc;

use diesel::connection::SimpleConnection;
use diesel::{Connection, Insertable, SqliteConnection};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use perf_benches::batch::{self, Answer, COLUMNS, Failure, postgres, sqlite};
use tokio::sync::Mutex;

diesel::table! {
    answers (user_id, question_id) {
        user_id -> BigInt,
        question_id -> BigInt,
        points -> BigInt,
        answer -> Text,
        answered_at -> BigInt,
    }
}

#[derive(Insertable)]
#[diesel(table_name = answers)]
struct NewAnswer {
    user_id: i64,
    question_id: i64,
    points: i64,
    answer: String,
    answered_at: i64,
}

fn new(row: Answer) -> NewAnswer {
    NewAnswer {
        user_id: row.user_id,
        question_id: row.question_id,
        points: row.points,
        answer: row.answer,
        answered_at: row.answered_at,
    }
}

#[derive(Clone)]
pub(crate) struct Pg(Arc<Mutex<AsyncPgConnection>>);

impl Pg {
    pub(crate) async fn open(db: &batch::Pg) -> Result<Self, Failure> {
        // As tokio-postgres takes it: with the search path that is in sqlx's URL.
        let (client, connection) = crate::tokio_copy::connect(db).await?;
        tokio::spawn(connection);
        let conn = AsyncPgConnection::try_from(client).await?;
        Ok(Self(Arc::new(Mutex::new(conn))))
    }

    pub(crate) async fn insert(self, rows: Vec<Answer>) -> Result<u64, Failure> {
        use diesel_async::RunQueryDsl;

        const MOST: usize = postgres::BINDS / COLUMNS;
        let mut conn = self.0.lock().await;
        let rows: Vec<NewAnswer> = rows.into_iter().map(new).collect();
        if rows.len() <= MOST {
            let insert = diesel::insert_into(answers::table).values(&rows);
            return Ok(insert.execute(&mut *conn).await? as u64);
        }
        let written = conn.transaction(async |conn| {
            let mut written = 0;
            for rows in rows.chunks(MOST) {
                let insert = diesel::insert_into(answers::table).values(rows);
                written += insert.execute(conn).await?;
            }
            diesel::QueryResult::Ok(written)
        });
        Ok(written.await? as u64)
    }
}

#[derive(Clone)]
pub(crate) struct Lite(Arc<Mutex<SqliteConnection>>);

impl Lite {
    pub(crate) fn open(db: &batch::Lite) -> Result<Self, Failure> {
        let path = db.path();
        let path = path.to_str().ok_or("the path is not UTF-8")?;
        let mut conn = SqliteConnection::establish(path)?;
        conn.batch_execute("PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000")?;
        Ok(Self(Arc::new(Mutex::new(conn))))
    }

    pub(crate) async fn insert(self, rows: Vec<Answer>) -> Result<u64, Failure> {
        let conn = self.0.lock_owned().await;
        let blocking = tokio::task::spawn_blocking(move || insert_blocking(conn, rows));
        Ok(blocking.await?? as u64)
    }
}

fn insert_blocking(
    mut conn: tokio::sync::OwnedMutexGuard<SqliteConnection>,
    rows: Vec<Answer>,
) -> diesel::QueryResult<usize> {
    use diesel::RunQueryDsl;

    const MOST: usize = sqlite::BINDS / COLUMNS;
    let rows: Vec<NewAnswer> = rows.into_iter().map(new).collect();
    if rows.len() <= MOST {
        let insert = diesel::insert_into(answers::table).values(&rows);
        return insert.execute(&mut *conn);
    }
    conn.immediate_transaction(|conn| {
        let mut written = 0;
        for rows in rows.chunks(MOST) {
            let insert = diesel::insert_into(answers::table).values(rows);
            written += insert.execute(conn)?;
        }
        Ok(written)
    })
}
