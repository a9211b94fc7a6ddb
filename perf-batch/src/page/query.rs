use std::fmt;

use sqlx::error::BoxDynError;
use sqlx::{
    Arguments, AssertSqlSafe, ColumnIndex, Database, Decode, Encode, Executor, FromRow,
    IntoArguments, Row, SqlSafeStr, SqlStr, Type, ValueRef,
};

use super::Page;
use crate::BulkDatabase;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The page's number or its size is 0; nothing was sent.
    #[error("no page {number} of size {size}: both count from 1")]
    Zero {
        /// The number asked for.
        number: u64,
        /// The size asked for.
        size: u32,
    },
    /// A value could not be encoded, the database refused the statement, or a row could not be
    /// decoded.
    #[error("the page could not be read")]
    Database(#[source] sqlx::Error),
}

/// A query that is read page by page: a page's rows and the number of all rows in one statement.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # async fn example(pool: sqlx::SqlitePool) -> Result<(), perf_batch::PageError> {
/// use perf_batch::{Page, PageQuery};
///
/// let page: Page<(i64, String)> =
///     PageQuery::new("SELECT id, name FROM users WHERE team = $1", "name, id")
///         .bind(7)
///         .fetch(&pool, 3, 20)
///         .await?;
/// println!("page {} of {}: {:?}", page.number, page.pages(), page.items);
/// # Ok(())
/// # }
/// ```
///
/// The query is a `SELECT` of any kind (joins, `GROUP BY`, a `WITH` of its own) whose columns have
/// different names. The order is what would follow `ORDER BY`, over the query's columns by the
/// names that they have in its result. Let it end with a unique column: rows that are equal in it
/// come in any order, so one of them may be on two pages and another on none.
///
/// The total is right also for a page beyond the last and for no rows at all, where
/// `count(*) OVER ()` has no row to put it in; and it belongs to the same moment as the rows. It
/// costs what `SELECT count(*)` of the query costs. The database plans the rows apart from the
/// count, so an index that fits the order still spares it to sort all rows.
///
/// Rows decode by [`FromRow`] as from the query itself, to a tuple too. After the query's columns
/// there are two more, `perf_there` and `perf_total`; the query runs as `perf_rows`.
#[must_use = "nothing is read until fetch"]
pub struct PageQuery<DB: Database> {
    sql: SqlStr,
    order_by: SqlStr,
    arguments: Result<DB::Arguments, BoxDynError>,
}

impl<DB: BulkDatabase> PageQuery<DB> {
    /// A query and its order, such as `"created_at DESC, id"`.
    ///
    /// Values go in by [`bind`](Self::bind), for the placeholders `$1`, `$2` .. of the query, on
    /// SQLite also `?`. The order takes none.
    pub fn new(sql: impl SqlSafeStr, order_by: impl SqlSafeStr) -> Self {
        Self {
            sql: sql.into_sql_str(),
            order_by: order_by.into_sql_str(),
            arguments: Ok(DB::Arguments::default()),
        }
    }

    /// Binds the value of the next placeholder.
    pub fn bind<'t, T>(mut self, value: T) -> Self
    where
        T: Encode<'t, DB> + Type<DB>,
    {
        if let Ok(arguments) = &mut self.arguments
            && let Err(error) = arguments.add(value)
        {
            self.arguments = Err(error);
        }
        self
    }

    /// Reads page `number`, from 1, where a page has up to `size` rows.
    ///
    /// A page beyond the last has no items, and the right total. The size is the caller's to
    /// bound: a page is held in memory as a whole.
    ///
    /// # Errors
    ///
    /// [`PageError::Zero`] where `number` or `size` is 0, else [`PageError::Database`].
    ///
    /// # Cancel safety
    ///
    /// It only reads. Dropping the future is as dropping that of sqlx's `fetch_all`.
    pub async fn fetch<'e, T, E>(
        self,
        executor: E,
        number: u64,
        size: u32,
    ) -> Result<Page<T>, PageError>
    where
        E: Executor<'e, Database = DB>,
        T: for<'r> FromRow<'r, DB::Row>,
        i64: for<'t> Encode<'t, DB> + for<'r> Decode<'r, DB> + Type<DB>,
        usize: ColumnIndex<DB::Row>,
        DB::Arguments: IntoArguments<DB>,
    {
        if number == 0 || size == 0 {
            return Err(PageError::Zero { number, size });
        }
        let (sql, arguments) = self.statement(number, size).map_err(PageError::Database)?;
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments);
        let rows = query.fetch_all(executor).await;
        let rows = rows.map_err(PageError::Database)?;
        let (items, total) = decode(&rows).map_err(PageError::Database)?;
        Ok(Page {
            items,
            total,
            number,
            size,
        })
    }

    /// The text is the same for every page, so a connection prepares it once.
    fn statement(self, number: u64, size: u32) -> Result<(String, DB::Arguments), sqlx::Error>
    where
        i64: for<'t> Encode<'t, DB> + Type<DB>,
    {
        let mut arguments = self.arguments.map_err(sqlx::Error::Encode)?;
        let given = arguments.len();
        for value in [i64::from(size), offset_of(number, size)] {
            arguments.add(value).map_err(sqlx::Error::Encode)?;
        }
        let sql = format!(
            include_str!("page.sql"),
            query = without_end(self.sql.as_str()),
            order_by = self.order_by.as_str(),
            limit = given + 1,
            offset = given + 2,
        );
        Ok((sql, arguments))
    }
}

/// Where a page starts. Whatever lies beyond 2^62 rows is empty wherever it starts, and the limit
/// can be added to it without overflow.
fn offset_of(number: u64, size: u32) -> i64 {
    let offset = number.saturating_sub(1).saturating_mul(u64::from(size));
    i64::try_from(offset).map_or(1 << 62, |offset| offset.min(1 << 62))
}

/// The query without semicolons at its end.
fn without_end(sql: &str) -> &str {
    sql.trim_end_matches(|c: char| c == ';' || c.is_whitespace())
}

/// The two columns of ours are the last, read by their place: no name of the query's can be in
/// the way.
fn decode<T, R>(rows: &[R]) -> Result<(Vec<T>, u64), sqlx::Error>
where
    R: Row,
    T: for<'r> FromRow<'r, R>,
    i64: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    usize: ColumnIndex<R>,
{
    let mut items = Vec::with_capacity(rows.len());
    let mut total = 0;
    for row in rows {
        let columns = row.len();
        let counted: i64 = row.try_get(columns.saturating_sub(1))?;
        total = counted.unsigned_abs();
        if !row.try_get_raw(columns.saturating_sub(2))?.is_null() {
            items.push(T::from_row(row)?);
        }
    }
    Ok((items, total))
}

impl<DB: Database> fmt::Debug for PageQuery<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageQuery")
            .field("sql", &self.sql.as_str())
            .field("order_by", &self.order_by.as_str())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_never_overflows() {
        assert_eq!(offset_of(1, 20), 0);
        assert_eq!(offset_of(3, 20), 40);
        assert_eq!(offset_of(0, 20), 0);
        for number in [u64::MAX, 1 << 63, (1 << 62) + 2] {
            for size in [1, u32::MAX] {
                assert_eq!(offset_of(number, size), 1 << 62);
            }
        }
    }
}
