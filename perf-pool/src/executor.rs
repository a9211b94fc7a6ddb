//! `&Pool` in the place of sqlx's `&Pool`: each query checks a connection out by our own acquire.
//!
//! The acquire is made within the boxed future: captured, it would take its kilobytes there twice.

use std::panic::Location;
use std::sync::Arc;

use async_stream::try_stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::pool::MaybePoolConnection;
use sqlx::{Acquire, Database, Describe, Either, Error, Execute, Executor, SqlSafeStr, SqlStr};

use crate::{Pool, PoolConnection};

impl<'p, DB: Database> Executor<'p> for &'_ Pool<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    type Database = DB;

    #[track_caller]
    fn execute<'e, 'q: 'e, E>(self, mut query: E) -> BoxFuture<'e, Result<DB::QueryResult, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let (pool, taken_at) = (Arc::clone(self.inner()), Location::caller());
        Box::pin(async move {
            pool.terms.allow(&mut query)?;
            let mut conn = pool.acquire(taken_at).await?;
            let done = conn.for_statement().execute(query).await?;
            conn.settled();
            Ok(done)
        })
    }

    #[track_caller]
    fn fetch_many<'e, 'q: 'e, E>(
        self,
        mut query: E,
    ) -> BoxStream<'e, Result<Either<DB::QueryResult, DB::Row>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let (pool, taken_at) = (Arc::clone(self.inner()), Location::caller());
        Box::pin(try_stream! {
            pool.terms.allow(&mut query)?;
            let mut conn = pool.acquire(taken_at).await?;
            for await step in conn.for_statement().fetch_many(query) {
                yield step?;
            }
            conn.settled();
        })
    }

    #[track_caller]
    fn fetch_all<'e, 'q: 'e, E>(self, mut query: E) -> BoxFuture<'e, Result<Vec<DB::Row>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let (pool, taken_at) = (Arc::clone(self.inner()), Location::caller());
        Box::pin(async move {
            pool.terms.allow(&mut query)?;
            let mut conn = pool.acquire(taken_at).await?;
            let done = conn.for_statement().fetch_all(query).await?;
            conn.settled();
            Ok(done)
        })
    }

    #[track_caller]
    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        mut query: E,
    ) -> BoxFuture<'e, Result<Option<DB::Row>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let (pool, taken_at) = (Arc::clone(self.inner()), Location::caller());
        Box::pin(async move {
            pool.terms.allow(&mut query)?;
            let mut conn = pool.acquire(taken_at).await?;
            let done = conn.for_statement().fetch_optional(query).await?;
            conn.settled();
            Ok(done)
        })
    }

    #[track_caller]
    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<DB::Statement, Error>>
    where
        'p: 'e,
    {
        let (pool, taken_at) = (Arc::clone(self.inner()), Location::caller());
        Box::pin(async move {
            pool.terms.allow_preparing()?;
            let mut conn = pool.acquire(taken_at).await?;
            let done = conn.for_statement().prepare_with(sql, parameters).await?;
            conn.settled();
            Ok(done)
        })
    }

    #[track_caller]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<DB>, Error>>
    where
        'p: 'e,
    {
        let (pool, taken_at) = (Arc::clone(self.inner()), Location::caller());
        Box::pin(async move {
            pool.terms.allow_preparing()?;
            let mut conn = pool.acquire(taken_at).await?;
            let done = conn.for_statement().describe(sql).await?;
            conn.settled();
            Ok(done)
        })
    }
}

impl<'a, DB: Database> Acquire<'a> for &'_ Pool<DB> {
    type Database = DB;
    type Connection = PoolConnection<DB>;

    #[track_caller]
    fn acquire(self) -> BoxFuture<'a, Result<PoolConnection<DB>, Error>> {
        let (pool, taken_at) = (Arc::clone(self.inner()), Location::caller());
        Box::pin(async move { Ok(pool.acquire(taken_at).await?) })
    }

    /// sqlx's transaction holds sqlx's guard, so ours ends here: the connection counts as in use
    /// and its return is bounded, but the time it is used is not recorded.
    #[track_caller]
    fn begin(self) -> BoxFuture<'a, Result<sqlx::Transaction<'a, DB>, Error>> {
        let (pool, taken_at) = (Arc::clone(self.inner()), Location::caller());
        Box::pin(async move {
            let statement = pool.begin_statement.map(SqlSafeStr::into_sql_str);
            let conn = Arc::clone(&pool).acquire(taken_at).await?.into_sqlx();
            let conn = MaybePoolConnection::PoolConnection(conn);
            let mut begin = sqlx::Transaction::begin(conn, statement);
            // Declared after `begin`, so that it is dropped first: before the connection goes back.
            let dropped = pool.dropped_begins.guard();
            let begun = (&mut begin).await;
            // One that failed may have begun nevertheless.
            if begun.is_ok() {
                dropped.disarm();
            }
            begun
        })
    }
}
