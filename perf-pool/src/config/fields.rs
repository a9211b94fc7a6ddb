//! The one list of what can be configured: from here come the names, how values are read, and
//! which setter of the builder takes them.

#[cfg(feature = "postgres")]
use sqlx::Postgres;

use super::value::{Count, CountOrZero, Notation, Part, Span, SpanOrNone, SpanOrZero, Text};
use crate::driver::Driver;
#[cfg(feature = "postgres")]
use crate::{BudgetCheck, Pooler, PoolerStatements};
use crate::{PoolBuilder, Profile};

/// A list of settings: `name: notation => setter`.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        struct $list:ident for [$($generics:tt)*] $builder:ty {
            $($name:ident: $notation:ty => $setter:ident,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub(crate) struct $list {
            $($name: Option<<$notation as Notation>::Value>,)*
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
                    return Some(match <$notation>::parse(text) {
                        Some(value) => {
                            self.$name = Some(value);
                            Ok(())
                        }
                        None => Err(<$notation>::EXPECTED),
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
        pool_name: Text => name,
        profile: Profile => profile,
        min_connections: CountOrZero => min_connections,
        max_connections: Count => max_connections,
        acquire_timeout: Span => acquire_timeout,
        connect_timeout: Span => connect_timeout,
        max_connecting: Count => max_connecting,
        idle_timeout: SpanOrNone => idle_timeout,
        max_lifetime: SpanOrNone => max_lifetime,
        max_lifetime_jitter: Part => max_lifetime_jitter,
        keepalive_interval: SpanOrNone => keepalive_interval,
        leak_detection_threshold: SpanOrNone => leak_detection_threshold,
        warn_in_use: CountOrZero => warn_in_use,
        warn_overflow: CountOrZero => warn_overflow,
        warn_pending: CountOrZero => warn_pending,
        alive_bypass_window: SpanOrZero => alive_bypass_window,
        ping_timeout: Span => ping_timeout,
        return_timeout: SpanOrNone => return_timeout,
        statement_cache_capacity: CountOrZero<usize> => statement_cache_capacity,
    }
}

#[cfg(feature = "postgres")]
settings! {
    /// What only Postgres has.
    struct OfPostgres for [] PoolBuilder<Postgres> {
        statement_timeout: SpanOrNone => statement_timeout,
        idle_in_transaction_session_timeout: SpanOrNone => idle_in_transaction_session_timeout,
        pooler: Pooler => pooler,
        pooler_statements: PoolerStatements => pooler_statements,
        instances: Count => instances,
        budget: BudgetCheck => budget,
    }
}
