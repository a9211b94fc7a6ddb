use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, Row};

/// The database under which PgBouncer answers questions about itself.
const CONSOLE: &str = "pgbouncer";

/// What PgBouncer says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Major and minor.
    pub(super) version: (u32, u32),
    /// How it pools the connections of this user to this database.
    pub(super) pool_mode: String,
    /// 0 in versions that do not know it.
    pub(super) max_prepared_statements: usize,
    /// How many clients it takes, of all users and databases.
    pub(super) max_client_conn: Option<u32>,
    /// How many connections to the server it opens for this database and user.
    pub(super) pool_size: Option<u32>,
    /// How many more where clients have waited for long.
    pub(super) reserve_pool_size: u32,
    /// What it runs between two clients in session mode.
    pub(super) server_reset_query: String,
}

/// Asks the console, with the same user, over a connection of its own, in the simple protocol,
/// which is the only one that it speaks.
pub(super) async fn ask(options: &PgConnectOptions) -> Result<Facts, sqlx::Error> {
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    let mut conn = options.clone().database(CONSOLE).connect().await?;
    let facts = facts(&mut conn, user, database).await;
    // It served its purpose, however its goodbye goes.
    let _ = conn.close().await;
    facts
}

async fn facts(conn: &mut PgConnection, user: &str, database: &str) -> Result<Facts, sqlx::Error> {
    let said: String = conn.fetch_one("SHOW VERSION").await?.try_get(0)?;
    let version = version(&said).ok_or_else(|| {
        sqlx::Error::Protocol(format!("SHOW VERSION says {said:?}, which is no PgBouncer"))
    })?;
    let config = conn.fetch_all("SHOW CONFIG").await?;
    let config: Vec<(String, String)> = pairs(&config, "key", "value")?;
    let setting = |key: &str| {
        config
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.clone())
    };
    // Databases and users may have a mode of their own; the first connection is in this pool.
    let mut pools = conn.fetch_all("SHOW POOLS").await?;
    pools.retain(|pool| {
        pool.try_get("database")
            .is_ok_and(|name: String| name == database)
    });
    let mode_of = |pool: &PgRow| pool.try_get::<String, _>("pool_mode").ok();
    let own = pools
        .iter()
        .find(|pool| pool.try_get("user").is_ok_and(|name: String| name == user))
        // Another user where the database is configured with one.
        .or(pools.first())
        .and_then(mode_of);
    let databases = conn.fetch_all("SHOW DATABASES").await?;
    let own_database = databases.iter().find(|row| {
        row.try_get("name")
            .is_ok_and(|name: String| name == database)
    });
    let count = |column| own_database.and_then(|row| count(row, column));
    Ok(Facts {
        max_client_conn: setting("max_client_conn").and_then(|value| value.parse().ok()),
        pool_size: count("pool_size"),
        // The one in 1.18, the other one in later versions.
        reserve_pool_size: count("reserve_pool")
            .or_else(|| count("reserve_pool_size"))
            .unwrap_or(0),
        version,
        pool_mode: own.or_else(|| setting("pool_mode")).unwrap_or_default(),
        max_prepared_statements: setting("max_prepared_statements")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0),
        server_reset_query: setting("server_reset_query").unwrap_or_default(),
    })
}

fn pairs(rows: &[PgRow], key: &str, value: &str) -> Result<Vec<(String, String)>, sqlx::Error> {
    rows.iter()
        .map(|row| {
            let value: Option<String> = row.try_get(value)?;
            Ok((row.try_get(key)?, value.unwrap_or_default()))
        })
        .collect()
}

fn count(row: &PgRow, column: &str) -> Option<u32> {
    let count: i32 = row.try_get(column).ok()?;
    u32::try_from(count).ok()
}

/// `PgBouncer 1.18.0`, and older `PgBouncer version 1.12.0`.
fn version(said: &str) -> Option<(u32, u32)> {
    let numbers = said
        .strip_prefix("PgBouncer")?
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = numbers.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_version_is_read_in_every_spelling() {
        assert_eq!(version("PgBouncer 1.18.0"), Some((1, 18)));
        assert_eq!(version("PgBouncer version 1.9.0"), Some((1, 9)));
        assert_eq!(version("PgBouncer 1.25.0dev"), Some((1, 25)));
        assert_eq!(version("PgBouncer 1.21-rc1"), Some((1, 21)));
        assert_eq!(version("PgCat 1.2.0"), None);
        assert_eq!(version("PostgreSQL 15.3"), None);
    }
}
