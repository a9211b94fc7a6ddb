use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;

use sqlx::{Acquire, Database};

use crate::BulkDatabase;

/// Where a batch gets its connection: whatever sqlx can take one from.
///
/// A shared reference (`&PgPool`, `&SqlitePool`, `&P` of another pool type whose reference
/// implements [`Acquire`]) is a pool: a retry may take another connection from it. A mutable
/// reference (`&mut PgConnection`, `&mut PoolConnection`, `&mut Transaction`) is one connection,
/// and all that is done is done on it. You never implement this trait: implement [`Acquire`].
#[diagnostic::on_unimplemented(
    message = "perf-batch cannot take a connection from `{Self}`",
    note = "pass a reference: `&pool`, `&mut connection` or `&mut *transaction`"
)]
pub trait Source<'a>: Acquire<'a> + Send + Sized + sealed::Sealed + 'a {
    /// A connection that can move into a task of its own.
    #[doc(hidden)]
    type Owned: DerefMut<Target = <Self::Database as Database>::Connection> + Send + 'static;

    /// Whether a connection can be its own.
    #[doc(hidden)]
    const OWNS: bool;

    /// The same source once more, where it can give another connection.
    #[doc(hidden)]
    fn again(&self) -> Option<Self>;

    /// The connection as its own, or back as it is where it is only borrowed.
    #[doc(hidden)]
    fn own(conn: Self::Connection) -> Result<Self::Owned, Self::Connection>;

    /// The way back from [`own`](Self::own).
    #[doc(hidden)]
    fn disown(conn: Self::Owned) -> Self::Connection;
}

mod sealed {
    /// Shared and mutable references, nothing else.
    pub trait Sealed {}
    impl<P: ?Sized> Sealed for &P {}
    impl<C: ?Sized> Sealed for &mut C {}
}

impl<'a, P> Source<'a> for &'a P
where
    P: Sync + ?Sized,
    &'a P: Acquire<'a, Connection: 'static>,
{
    type Owned = Self::Connection;

    const OWNS: bool = true;

    fn again(&self) -> Option<Self> {
        Some(*self)
    }

    fn own(conn: Self::Connection) -> Result<Self::Owned, Self::Connection> {
        Ok(conn)
    }

    fn disown(conn: Self::Owned) -> Self::Connection {
        conn
    }
}

impl<'a, C> Source<'a> for &'a mut C
where
    C: Send + ?Sized,
    &'a mut C: Acquire<'a, Database: Database<Connection: 'static>>,
{
    type Owned = Never<<Self::Database as Database>::Connection>;

    const OWNS: bool = false;

    fn again(&self) -> Option<Self> {
        None
    }

    fn own(conn: Self::Connection) -> Result<Self::Owned, Self::Connection> {
        Err(conn)
    }

    fn disown(conn: Self::Owned) -> Self::Connection {
        match conn.0 {}
    }
}

/// A connection that there never is.
#[derive(Debug)]
pub struct Never<C>(Infallible, PhantomData<C>);

impl<C> Deref for Never<C> {
    type Target = C;

    fn deref(&self) -> &C {
        match self.0 {}
    }
}

impl<C> DerefMut for Never<C> {
    fn deref_mut(&mut self) -> &mut C {
        match self.0 {}
    }
}

/// The connection of a batch, and the way to another one when it is lost.
///
/// A trait object, since the compiler cannot see that a future is `Send` which holds what
/// [`Acquire`] of some lifetime gives.
pub(crate) trait Link<DB: BulkDatabase>: Send {
    /// Takes a connection from the source where there is none.
    fn connect(&mut self) -> Boxed<'_, sqlx::Result<()>>;

    /// The connection, where there is one.
    fn connection(&mut self) -> Option<&mut DB::Connection>;

    /// Gives up the connection; whether there can be another one.
    fn lose(&mut self) -> bool;

    /// Whether the connection can move into a task of its own.
    fn can_copy(&self) -> bool;

    /// Copies encoded rows in over the connection, which is inside a transaction.
    fn copy(&mut self, sql: Arc<str>, data: Vec<u8>) -> Boxed<'_, sqlx::Result<u64>>;
}

pub(crate) type Boxed<'f, T> = Pin<Box<dyn Future<Output = T> + Send + 'f>>;

/// The connection; taken from the source where there is none.
pub(crate) async fn conn<DB: BulkDatabase>(
    link: &mut dyn Link<DB>,
) -> sqlx::Result<&mut DB::Connection> {
    link.connect().await?;
    link.connection().ok_or(sqlx::Error::PoolClosed)
}

/// The link over a source.
pub(crate) struct Taken<'a, S: Source<'a>> {
    source: Option<S>,
    conn: Option<S::Connection>,
}

impl<'a, S: Source<'a>> Taken<'a, S> {
    pub(crate) fn new(source: S) -> Self {
        Self {
            source: Some(source),
            conn: None,
        }
    }
}

impl<'a, DB, S> Link<DB> for Taken<'a, S>
where
    DB: BulkDatabase,
    S: Source<'a, Database = DB>,
{
    fn connect(&mut self) -> Boxed<'_, sqlx::Result<()>> {
        let Self { source, conn } = self;
        if conn.is_some() {
            return Box::pin(ready(Ok(())));
        }
        let Some(taken) = source.take() else {
            return Box::pin(ready(Err(sqlx::Error::PoolClosed)));
        };
        *source = taken.again();
        let mut acquire = taken.acquire();
        Box::pin(poll_fn(move |cx| {
            acquire.as_mut().poll(cx).map_ok(|got| *conn = Some(got))
        }))
    }

    fn connection(&mut self) -> Option<&mut DB::Connection> {
        self.conn.as_deref_mut()
    }

    fn lose(&mut self) -> bool {
        if self.source.is_some() {
            self.conn = None;
        }
        self.source.is_some()
    }

    fn can_copy(&self) -> bool {
        S::OWNS
    }

    fn copy(&mut self, sql: Arc<str>, data: Vec<u8>) -> Boxed<'_, sqlx::Result<u64>> {
        let slot = &mut self.conn;
        let owned = match slot.take().map(S::own) {
            Some(Ok(owned)) => owned,
            Some(Err(borrowed)) => {
                *slot = Some(borrowed);
                let error = "a connection that is only borrowed cannot copy";
                return Box::pin(ready(Err(sqlx::Error::Protocol(error.into()))));
            }
            None => return Box::pin(ready(Err(sqlx::Error::PoolClosed))),
        };
        let mut copy = Box::pin(DB::copy(owned, sql, data));
        Box::pin(poll_fn(move |cx| {
            copy.as_mut().poll(cx).map(|(conn, copied)| {
                *slot = conn.map(S::disown);
                copied
            })
        }))
    }
}
