//! The one list of what can be configured: from here come the names, how values are read, and
//! which setter of the builder takes them.

use std::time::Duration;

#[cfg(feature = "postgres")]
use sqlx::Postgres;

use super::value::Value;
use crate::driver::Driver;
#[cfg(feature = "postgres")]
use crate::{BudgetCheck, Pooler, PoolerStatements};
use crate::{PoolBuilder, Profile};

/// A list of settings: `name: type => setter`.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        struct $list:ident for [$($generics:tt)*] $builder:ty {
            $($name:ident: $type:ty => $setter:ident,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub(crate) struct $list {
            $($name: Option<$type>,)*
        }

        impl $list {
            pub(super) const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// `None` if nothing has that name, else what is expected where that is not a value.
            pub(super) fn set(
                &mut self,
                name: &str,
                text: &str,
            ) -> Option<Result<(), &'static str>> {
                $(if name == stringify!($name) {
                    return Some(match <$type>::parse(text) {
                        Some(value) => {
                            self.$name = Some(value);
                            Ok(())
                        }
                        None => Err(<$type>::EXPECTED),
                    });
                })*
                None
            }

            pub(crate) fn apply<$($generics)*>(&self, mut builder: $builder) -> $builder {
                $(if let Some(value) = &self.$name {
                    builder = builder.$setter(value.clone());
                })*
                builder
            }

            /// The first one that is set.
            #[allow(dead_code, reason = "used for those settings that not every database has")]
            pub(super) fn first(&self) -> Option<&'static str> {
                $(if self.$name.is_some() {
                    return Some(stringify!($name));
                })*
                None
            }
        }
    };
}

settings! {
    /// What any pool has.
    struct Common for [DB: Driver] PoolBuilder<DB> {
        // Not `name`: `DB_NAME` is everybody's name of the database.
        pool_name: String => name,
        profile: Profile => profile,
        min_connections: u32 => min_connections,
        max_connections: u32 => max_connections,
        acquire_timeout: Duration => acquire_timeout,
        connect_timeout: Duration => connect_timeout,
        max_connecting: u32 => max_connecting,
        idle_timeout: Option<Duration> => idle_timeout,
        max_lifetime: Option<Duration> => max_lifetime,
        max_lifetime_jitter: f64 => max_lifetime_jitter,
        keepalive_interval: Option<Duration> => keepalive_interval,
        leak_detection_threshold: Option<Duration> => leak_detection_threshold,
        warn_in_use: u32 => warn_in_use,
        warn_overflow: u32 => warn_overflow,
        warn_pending: u32 => warn_pending,
        alive_bypass_window: Duration => alive_bypass_window,
        ping_timeout: Duration => ping_timeout,
        return_timeout: Option<Duration> => return_timeout,
        statement_cache_capacity: usize => statement_cache_capacity,
    }
}

#[cfg(feature = "postgres")]
settings! {
    /// What only Postgres has.
    struct OfPostgres for [] PoolBuilder<Postgres> {
        statement_timeout: Option<Duration> => statement_timeout,
        idle_in_transaction_session_timeout: Option<Duration>
            => idle_in_transaction_session_timeout,
        pooler: Pooler => pooler,
        pooler_statements: PoolerStatements => pooler_statements,
        instances: u32 => instances,
        budget: BudgetCheck => budget,
    }
}
