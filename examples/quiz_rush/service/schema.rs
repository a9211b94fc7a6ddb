use std::path::Path;

use anyhow::{Context, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection};

use crate::api::{QUIET_QUIZ, QUIET_USERS, QUIZ, correct, league_of};
use crate::args::Size;

/// Makes a fresh database with the users, and the questions of both quizzes.
pub(crate) async fn prepare(path: &Path, size: Size) -> Result<()> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .connect()
        .await
        .with_context(|| format!("create the database {}", path.display()))?;
    let mut tx = connection.begin().await?;
    sqlx::raw_sql(include_str!("sql/schema.sql"))
        .execute(&mut *tx)
        .await?;
    for user in (1..=i64::from(size.users)).chain(QUIET_USERS) {
        sqlx::query("INSERT INTO users (user_id, league_id) VALUES (?, ?)")
            .bind(user)
            .bind(league_of(user))
            .execute(&mut *tx)
            .await?;
    }
    for quiz in [QUIZ, QUIET_QUIZ] {
        for question in 1..=i64::from(size.answers) {
            sqlx::query("INSERT INTO questions (quiz_id, question_id, correct) VALUES (?, ?, ?)")
                .bind(quiz)
                .bind(question)
                .bind(correct(question))
                .execute(&mut *tx)
                .await?;
        }
    }
    tx.commit().await?;
    connection.close().await?;
    Ok(())
}
