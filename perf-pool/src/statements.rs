//! Statements on a checked out connection, whose end the pool sees.
//!
//! A connection of which the last statement succeeded, and was read to its end, needs no test when it
//! comes back. What runs on the driver's connection itself (`&mut *conn`) is not seen.

use async_stream::try_stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use sqlx::{Database, Describe, Either, Error, Execute, Executor, SqlStr};

use crate::PoolConnection;

/// One driver at a time: for all of them at once, rustc would look for the executor of a connection
/// of a connection of a connection .. wherever a caller is generic over databases.
macro_rules! see_statements_of {
    ($db:ty) => {
        impl<'c> Executor<'c> for &'c mut PoolConnection<$db> {
            type Database = $db;

            fn execute<'e, 'q: 'e, E>(
                self,
                mut query: E,
            ) -> BoxFuture<'e, Result<<$db as Database>::QueryResult, Error>>
            where
                'c: 'e,
                E: 'q + Execute<'q, $db>,
            {
                Box::pin(async move {
                    self.terms().allow(&mut query)?;
                    let done = self.for_statement().execute(query).await?;
                    self.settled();
                    Ok(done)
                })
            }

            fn fetch_many<'e, 'q: 'e, E>(
                self,
                mut query: E,
            ) -> BoxStream<
                'e,
                Result<Either<<$db as Database>::QueryResult, <$db as Database>::Row>, Error>,
            >
            where
                'c: 'e,
                E: 'q + Execute<'q, $db>,
            {
                Box::pin(try_stream! {
                    self.terms().allow(&mut query)?;
                    for await step in self.for_statement().fetch_many(query) {
                        yield step?;
                    }
                    self.settled();
                })
            }

            fn fetch_all<'e, 'q: 'e, E>(
                self,
                mut query: E,
            ) -> BoxFuture<'e, Result<Vec<<$db as Database>::Row>, Error>>
            where
                'c: 'e,
                E: 'q + Execute<'q, $db>,
            {
                Box::pin(async move {
                    self.terms().allow(&mut query)?;
                    let rows = self.for_statement().fetch_all(query).await?;
                    self.settled();
                    Ok(rows)
                })
            }

            fn fetch_optional<'e, 'q: 'e, E>(
                self,
                mut query: E,
            ) -> BoxFuture<'e, Result<Option<<$db as Database>::Row>, Error>>
            where
                'c: 'e,
                E: 'q + Execute<'q, $db>,
            {
                Box::pin(async move {
                    self.terms().allow(&mut query)?;
                    let row = self.for_statement().fetch_optional(query).await?;
                    self.settled();
                    Ok(row)
                })
            }

            fn prepare_with<'e>(
                self,
                sql: SqlStr,
                parameters: &'e [<$db as Database>::TypeInfo],
            ) -> BoxFuture<'e, Result<<$db as Database>::Statement, Error>>
            where
                'c: 'e,
            {
                Box::pin(async move {
                    self.terms().allow_preparing()?;
                    let statement = self.for_statement().prepare_with(sql, parameters).await?;
                    self.settled();
                    Ok(statement)
                })
            }

            fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<$db>, Error>>
            where
                'c: 'e,
            {
                Box::pin(async move {
                    self.terms().allow_preparing()?;
                    let description = self.for_statement().describe(sql).await?;
                    self.settled();
                    Ok(description)
                })
            }
        }
    };
}

#[cfg(feature = "postgres")]
see_statements_of!(sqlx::Postgres);
#[cfg(feature = "sqlite")]
see_statements_of!(sqlx::Sqlite);
