use std::time::Duration;

use sqlx::Postgres;

use super::budget::BudgetCheck;
use super::pooler::{Pooler, PoolerStatements};
use crate::PoolBuilder;

/// What only Postgres has. The application name, by which the server shows a connection in
/// `pg_stat_activity`, is the pool's name where the URL (and `PGAPPNAME`) gives none.
impl PoolBuilder<Postgres> {
    /// The server cancels a statement that takes longer, which fails with code `57014`. Rides in
    /// the startup packet, so it costs no round trip. In whole milliseconds, at least one and at
    /// most 24 days. `None`: what the server, role or database has set. Defaults to `None`.
    ///
    /// Keep it below [`return_timeout`](Self::return_timeout), so that a cancelled query ends
    /// before its connection is given up.
    pub fn statement_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.driver.statement_timeout = timeout.into();
        self
    }

    /// The server closes a connection that holds a transaction open without doing anything for
    /// longer, so that a stuck client holds no locks for ever; its next statement fails with code
    /// `25P03`. Units, bounds and default as [`statement_timeout`](Self::statement_timeout).
    pub fn idle_in_transaction_session_timeout(
        mut self,
        timeout: impl Into<Option<Duration>>,
    ) -> Self {
        self.driver.idle_in_transaction_session_timeout = timeout.into();
        self
    }

    /// What stands between the pool and its server. Behind PgBouncer, what would not hold is
    /// refused in [`connect`](Self::connect), with the remedy; see
    /// [behind PgBouncer](crate#behind-pgbouncer). Defaults to [`Pooler::Direct`].
    pub fn pooler(mut self, pooler: Pooler) -> Self {
        self.driver.pooler = pooler;
        self
    }

    /// What is sent through [`Pooler::PgBouncerTransaction`]; means nothing without. Defaults to
    /// [`PoolerStatements::Prepared`], for which PgBouncer's console is asked at the start.
    pub fn pooler_statements(mut self, statements: PoolerStatements) -> Self {
        self.driver.pooler_statements = statements;
        self
    }

    /// How many pools like this one there are, over all processes and machines, for the
    /// [`budget`](Self::budget). Defaults to 1.
    pub fn instances(mut self, instances: u32) -> Self {
        self.driver.instances = instances;
        self
    }

    /// What happens in [`connect`](Self::connect) if [`instances`](Self::instances) times
    /// [`max_connections`](Self::max_connections) is more than the server grants: its
    /// `max_connections` less `superuser_reserved_connections` and `reserved_connections`, or the
    /// connection limit of the role or the database. Costs one round trip. Defaults to
    /// [`BudgetCheck::Warn`].
    ///
    /// Behind PgBouncer it is `max_client_conn`, in session mode also the `pool_size` with its
    /// reserve; nothing is checked where the console does not tell. What PgBouncer may open to the
    /// server does not show from here.
    pub fn budget(mut self, check: BudgetCheck) -> Self {
        self.driver.budget = check;
        self
    }
}
