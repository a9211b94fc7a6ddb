mod env;
mod error;
mod fields;
#[cfg(feature = "serde")]
mod serde;
mod similar;
mod value;

use std::ffi::OsString;

pub use self::error::ConfigError;
use self::fields::Common;
#[cfg(feature = "postgres")]
use self::fields::OfPostgres;
use crate::PoolBuilder;
use crate::driver::Driver;

/// Settings of a pool from the environment or a file, for
/// [`PoolBuilder::config`]. What is not set is left as it is.
///
/// The settings are named as the setters of the builder, listed under
/// [configuration](crate#configuration). With the feature `serde` it can be deserialized from any
/// format that describes itself (TOML, JSON, YAML); unknown names are refused. Each value is
/// written as in the environment; a number or a `true` may stand without quotes.
///
/// Whether the settings make sense together is checked in [`PoolBuilder::connect`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolConfig {
    common: Common,
    #[cfg(feature = "postgres")]
    postgres: OfPostgres,
}

impl PoolConfig {
    /// Reads the environment variables that begin with `prefix` and an underscore:
    /// `from_env("DB")` reads `DB_MAX_CONNECTIONS` and so on. An empty one counts as not set.
    ///
    /// Other variables may begin so, too: `DB_URL`, `DB_HOST`, `DB_PASSWORD` are none of the
    /// pool's. One that is a setting but for a few letters is an error, so that no misspelt limit
    /// is passed over; one that speaks of what a pool has (`DB_POOL_SIZE`) is warned of through
    /// `tracing`. Where such a variable is somebody else's, give the pool's a longer prefix; and
    /// give two pools prefixes of which none begins with the other.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the variable, what is wrong with its value, and what would be right.
    pub fn from_env(prefix: &str) -> Result<Self, ConfigError> {
        Self::from_vars(prefix, std::env::vars_os())
    }

    /// As [`from_env`](Self::from_env), from variables that come from elsewhere.
    ///
    /// ```
    /// # fn main() -> Result<(), perf_pool::ConfigError> {
    /// use perf_pool::PoolConfig;
    ///
    /// let vars = [("DB_URL", "postgres://db/quiz"), ("DB_MAX_CONNECTIONS", "80")];
    /// let config = PoolConfig::from_vars("DB", vars)?;
    ///
    /// let error = PoolConfig::from_vars("DB", [("DB_MAX_CONECTIONS", "80")]).unwrap_err();
    /// assert!(error.to_string().contains("did you mean DB_MAX_CONNECTIONS"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_vars<N, V>(
        prefix: &str,
        vars: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, ConfigError>
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        env::read(prefix, vars)
    }

    /// Sets what `name` names, unless nothing has that name.
    fn set(&mut self, name: &str, text: &str) -> Option<Result<(), &'static str>> {
        let common = self.common.set(name, text);
        #[cfg(feature = "postgres")]
        return common.or_else(|| self.postgres.set(name, text));
        #[cfg(not(feature = "postgres"))]
        common
    }

    /// The names of all settings.
    fn names() -> impl Iterator<Item = &'static str> {
        let names = Common::NAMES.iter().copied();
        #[cfg(feature = "postgres")]
        return names.chain(OfPostgres::NAMES.iter().copied());
        #[cfg(not(feature = "postgres"))]
        names
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn postgres(&self) -> &OfPostgres {
        &self.postgres
    }

    /// A setting that only Postgres has, if one is set.
    #[cfg(feature = "sqlite")]
    pub(crate) fn first_of_postgres(&self) -> Option<&'static str> {
        #[cfg(feature = "postgres")]
        return self.postgres.first();
        #[cfg(not(feature = "postgres"))]
        None
    }
}

impl<DB: Driver> PoolBuilder<DB> {
    /// Applies what is set in a configuration, in place of what was set before.
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres")]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use perf_pool::{Pool, PoolConfig, Profile};
    /// use sqlx::Postgres;
    ///
    /// let pool = Pool::<Postgres>::builder()
    ///     .profile(Profile::Moderate)              // unless DB_PROFILE says otherwise
    ///     .config(&PoolConfig::from_env("DB")?)
    ///     .connect(&std::env::var("DB_URL")?)
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn config(self, config: &PoolConfig) -> Self {
        DB::apply(config, config.common.apply(self))
    }
}

#[cfg(test)]
mod tests;
