//! sea-orm, over the pool that the other entries use.

use perf_benches::batch::{Answer, COLUMNS, Failure, postgres, sqlite};
use sea_orm::{
    DatabaseConnection, EntityTrait, Set, SqlxPostgresConnector, SqlxSqliteConnector,
    TransactionTrait,
};
use sqlx::{PgPool, SqlitePool};

mod answers {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "answers")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) user_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) question_id: i64,
        pub(crate) points: i64,
        pub(crate) answer: String,
        pub(crate) answered_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn model(row: Answer) -> answers::ActiveModel {
    answers::ActiveModel {
        user_id: Set(row.user_id),
        question_id: Set(row.question_id),
        points: Set(row.points),
        answer: Set(row.answer),
        answered_at: Set(row.answered_at),
    }
}

pub(crate) async fn sqlite(pool: SqlitePool, rows: Vec<Answer>) -> Result<u64, Failure> {
    let db = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool);
    insert(db, rows, sqlite::BINDS / COLUMNS).await
}

pub(crate) async fn postgres(pool: PgPool, rows: Vec<Answer>) -> Result<u64, Failure> {
    let db = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
    insert(db, rows, postgres::BINDS / COLUMNS).await
}

async fn insert(db: DatabaseConnection, rows: Vec<Answer>, most: usize) -> Result<u64, Failure> {
    if rows.len() <= most {
        let insert = answers::Entity::insert_many(rows.into_iter().map(model));
        return Ok(insert.exec_without_returning(&db).await?);
    }
    let tx = db.begin().await?;
    let mut rows = rows.into_iter().map(model).peekable();
    let mut written = 0;
    while rows.peek().is_some() {
        let insert = answers::Entity::insert_many(rows.by_ref().take(most));
        written += insert.exec_without_returning(&tx).await?;
    }
    tx.commit().await?;
    Ok(written)
}
