use std::fmt;

use sqlx::{Executor, PgConnection, Row};

use super::console::Facts;
use super::pooler::Pooler;
use crate::ConnectError;
use crate::driver::About;

const GRANTED: &str = include_str!("budget.sql");

/// What happens at the start if all instances together may open more connections than the server
/// grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BudgetCheck {
    /// Nothing, the server is not asked.
    Off,
    /// A warning through `tracing`; also if the server cannot tell.
    #[default]
    Warn,
    /// `connect` fails with [`ConnectError::OverBudget`]; with [`ConnectError::Budget`] if the
    /// server cannot tell.
    Error,
}

/// All instances together may open more connections than the server grants.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OverBudget {
    /// How many pools like this one there are, as the builder was told.
    pub instances: u32,
    /// The `max_connections` of each pool.
    pub max_connections: u32,
    /// The tightest limit.
    pub limit: BudgetLimit,
}

/// What limits the connections to a Postgres server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BudgetLimit {
    /// The server itself.
    Server {
        /// Its `max_connections`.
        max_connections: u32,
        /// What it keeps back: `superuser_reserved_connections` and `reserved_connections`.
        reserved: u32,
    },
    /// The role: `ALTER ROLE .. CONNECTION LIMIT`.
    Role {
        /// Its name.
        name: String,
        /// Its limit.
        limit: u32,
    },
    /// The database: `ALTER DATABASE .. CONNECTION LIMIT`.
    Database {
        /// Its name.
        name: String,
        /// Its limit.
        limit: u32,
    },
    /// The clients of PgBouncer, in both modes.
    PoolerClients {
        /// Its `max_client_conn`.
        max_client_conn: u32,
    },
    /// The connections of PgBouncer to the server, of which each client keeps one in session mode.
    PoolerServers {
        /// The `pool_size` of the database.
        pool_size: u32,
        /// Its `reserve_pool_size`.
        reserve: u32,
    },
}

impl BudgetLimit {
    /// How many connections it leaves to all clients.
    pub fn granted(&self) -> u32 {
        match *self {
            Self::Server {
                max_connections,
                reserved,
            } => max_connections.saturating_sub(reserved),
            Self::Role { limit, .. } | Self::Database { limit, .. } => limit,
            Self::PoolerClients { max_client_conn } => max_client_conn,
            Self::PoolerServers { pool_size, reserve } => pool_size.saturating_add(reserve),
        }
    }

    const fn remedy(&self) -> &'static str {
        match self {
            Self::Server { .. } | Self::Role { .. } | Self::Database { .. } => {
                "raise the server's limit, or put a pooler in front of it"
            }
            Self::PoolerClients { .. } => "or raise max_client_conn",
            Self::PoolerServers { .. } => "raise pool_size, or use transaction mode",
        }
    }
}

impl fmt::Display for BudgetLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server {
                max_connections,
                reserved,
            } => write!(
                f,
                "the server grants {} (max_connections {max_connections}, less {reserved} reserved)",
                self.granted()
            ),
            Self::Role { name, limit } => write!(f, "the server grants {limit} to role {name:?}"),
            Self::Database { name, limit } => {
                write!(f, "the server grants {limit} to database {name:?}")
            }
            Self::PoolerClients { max_client_conn } => {
                write!(
                    f,
                    "PgBouncer takes {max_client_conn} clients (max_client_conn)"
                )
            }
            Self::PoolerServers { pool_size, reserve } => write!(
                f,
                "PgBouncer in session mode has {} for them (pool_size {pool_size}, \
                 reserve_pool_size {reserve})",
                self.granted()
            ),
        }
    }
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            instances,
            max_connections,
            limit,
        } = self;
        let needed = u64::from(*instances) * u64::from(*max_connections);
        match instances {
            1 => write!(f, "max_connections is {max_connections}")?,
            _ => write!(
                f,
                "{instances} instances with max_connections {max_connections} may open {needed}"
            )?,
        }
        write!(f, ", but {limit}: ")?;
        match limit.granted() / instances {
            0 => f.write_str("run fewer instances")?,
            most => write!(f, "lower it to {most} at most")?,
        }
        write!(f, ", {}", limit.remedy())
    }
}

impl std::error::Error for OverBudget {}

/// Compares what all instances may open with what the server grants, as configured.
pub(super) async fn of_server(
    how: BudgetCheck,
    instances: u32,
    about: &About,
    conn: &mut PgConnection,
) -> Result<(), ConnectError> {
    if how == BudgetCheck::Off {
        return Ok(());
    }
    match limits(conn).await {
        Ok(limits) => weigh(how, instances, about, limits),
        Err(source) if how == BudgetCheck::Error => Err(ConnectError::Budget {
            target: about.target.to_string(),
            source,
        }),
        Err(error) => {
            tracing::warn!(
                pool = &*about.name,
                error = &error as &dyn std::error::Error,
                "the server does not tell how many connections it grants"
            );
            Ok(())
        }
    }
}

/// As [`of_server`], with what PgBouncer said of itself.
pub(super) fn of_pooler(
    how: BudgetCheck,
    instances: u32,
    about: &About,
    pooler: Pooler,
    facts: &Facts,
) -> Result<(), ConnectError> {
    let clients = facts
        .max_client_conn
        .map(|max_client_conn| BudgetLimit::PoolerClients { max_client_conn });
    let servers = facts
        .pool_size
        .filter(|_| pooler == Pooler::PgBouncerSession)
        .map(|pool_size| BudgetLimit::PoolerServers {
            pool_size,
            reserve: facts.reserve_pool_size,
        });
    weigh(how, instances, about, clients.into_iter().chain(servers))
}

fn weigh(
    how: BudgetCheck,
    instances: u32,
    about: &About,
    limits: impl IntoIterator<Item = BudgetLimit>,
) -> Result<(), ConnectError> {
    match (how, over(instances, about.max_connections, limits)) {
        (BudgetCheck::Off, _) | (_, None) => Ok(()),
        (BudgetCheck::Error, Some(over)) => Err(over.into()),
        (BudgetCheck::Warn, Some(over)) => {
            tracing::warn!(pool = &*about.name, "{over}");
            Ok(())
        }
    }
}

fn over(
    instances: u32,
    max_connections: u32,
    limits: impl IntoIterator<Item = BudgetLimit>,
) -> Option<OverBudget> {
    let needed = u64::from(instances) * u64::from(max_connections);
    let limit = limits.into_iter().min_by_key(BudgetLimit::granted)?;
    (needed > u64::from(limit.granted())).then_some(OverBudget {
        instances,
        max_connections,
        limit,
    })
}

async fn limits(conn: &mut PgConnection) -> Result<Vec<BudgetLimit>, sqlx::Error> {
    let row = conn.fetch_one(sqlx::raw_sql(GRANTED)).await?;
    let count = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
    let mut limits = vec![BudgetLimit::Server {
        max_connections: count(row.try_get("max_connections")?),
        reserved: count(row.try_get("reserved")?),
    }];
    if let Some(limit) = row.try_get("role_limit")? {
        let (name, limit) = (row.try_get("role")?, count(limit));
        limits.push(BudgetLimit::Role { name, limit });
    }
    if let Some(limit) = row.try_get("database_limit")? {
        let (name, limit) = (row.try_get("database")?, count(limit));
        limits.push(BudgetLimit::Database { name, limit });
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(max_connections: u32) -> BudgetLimit {
        BudgetLimit::Server {
            max_connections,
            reserved: 3,
        }
    }

    #[test]
    fn what_fits_exactly_is_within_the_budget() {
        assert_eq!(over(1, 97, [server(100)]), None);
        assert_eq!(over(97, 1, [server(100)]), None);
        assert!(over(1, 98, [server(100)]).is_some());
        assert!(over(u32::MAX, u32::MAX, [server(100)]).is_some());
    }

    #[test]
    fn the_tightest_limit_is_named() {
        let role = BudgetLimit::Role {
            name: "app".to_owned(),
            limit: 20,
        };
        let over = over(3, 10, [server(100), role.clone()]).unwrap();
        assert_eq!(over.limit, role);
        assert_eq!(
            over.to_string(),
            "3 instances with max_connections 10 may open 30, but the server grants 20 to role \
             \"app\": lower it to 6 at most, raise the server's limit, or put a pooler in front \
             of it"
        );
    }

    #[test]
    fn the_message_has_a_remedy_where_no_pool_is_small_enough() {
        let message = |instances, max| over(instances, max, [server(100)]).unwrap().to_string();
        assert_eq!(
            message(1, 150),
            "max_connections is 150, but the server grants 97 (max_connections 100, less 3 \
             reserved): lower it to 97 at most, raise the server's limit, or put a pooler in \
             front of it"
        );
        assert!(message(98, 1).contains("run fewer instances"));
    }
}
