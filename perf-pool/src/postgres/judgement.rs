use super::console::Facts;
use super::pooler::{Pooler, PoolerStatements};
use super::pooler_error::PoolerError;

/// The first version that tracks prepared statements in transaction mode.
const TRACKS_STATEMENTS: (u32, u32) = (1, 21);

/// Whether what the pool is going to do is sound behind this PgBouncer.
///
/// `facts` are what the console said, or why it said nothing.
pub(super) fn judge(
    pooler: Pooler,
    statements: PoolerStatements,
    capacity: usize,
    facts: Result<&Facts, sqlx::Error>,
) -> Result<(), PoolerError> {
    if let Ok(facts) = facts
        && facts.pool_mode != pooler.mode()
    {
        return Err(PoolerError::Mode {
            declared: pooler,
            actual: facts.pool_mode.clone(),
        });
    }
    if pooler == Pooler::PgBouncerSession {
        return match facts {
            Ok(facts) if facts.server_reset_query.is_empty() => Err(PoolerError::NoReset),
            _ => Ok(()),
        };
    }
    match (statements, facts) {
        (PoolerStatements::RawSql, _) => Ok(()),
        (_, Ok(facts)) => tracked(facts.version, facts.max_prepared_statements, capacity),
        (
            PoolerStatements::Declared {
                major,
                minor,
                max_prepared_statements,
            },
            Err(_),
        ) => tracked((major, minor), max_prepared_statements, capacity),
        (PoolerStatements::Prepared, Err(source)) => Err(PoolerError::Console { source }),
    }
}

/// Whether a PgBouncer with these settings keeps the prepared statements of its clients apart.
fn tracked(
    (major, minor): (u32, u32),
    max_prepared_statements: usize,
    capacity: usize,
) -> Result<(), PoolerError> {
    if (major, minor) < TRACKS_STATEMENTS {
        return Err(PoolerError::TooOld { major, minor });
    }
    if max_prepared_statements == 0 {
        return Err(PoolerError::StatementsNotTracked { capacity });
    }
    if capacity > max_prepared_statements {
        return Err(PoolerError::CacheAboveLimit {
            capacity,
            max_prepared_statements,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::PoolerStatements::{Prepared, RawSql};
    use super::*;

    const SESSION: Pooler = Pooler::PgBouncerSession;
    const TRANSACTION: Pooler = Pooler::PgBouncerTransaction;

    fn facts(version: (u32, u32), pool_mode: &str, most: usize) -> Result<Facts, sqlx::Error> {
        Ok(Facts {
            version,
            pool_mode: pool_mode.to_owned(),
            max_prepared_statements: most,
            max_client_conn: None,
            pool_size: None,
            reserve_pool_size: 0,
            server_reset_query: "DISCARD ALL".to_owned(),
        })
    }

    fn judge(
        pooler: Pooler,
        statements: PoolerStatements,
        capacity: usize,
        facts: Result<Facts, sqlx::Error>,
    ) -> Result<(), PoolerError> {
        match facts {
            Ok(facts) => super::judge(pooler, statements, capacity, Ok(&facts)),
            Err(error) => super::judge(pooler, statements, capacity, Err(error)),
        }
    }

    fn silent() -> Result<Facts, sqlx::Error> {
        Err(sqlx::Error::Protocol("not allowed".to_owned()))
    }

    #[test]
    fn prepared_statements_need_a_version_that_tracks_them_and_room_for_them() {
        let judged = |version, most| {
            judge(
                TRANSACTION,
                Prepared,
                100,
                facts(version, "transaction", most),
            )
        };
        assert!(judged((1, 21), 100).is_ok());
        assert!(judged((1, 24), 200).is_ok());
        assert!(judged((2, 0), 200).is_ok());
        assert!(matches!(
            judged((1, 20), 200),
            Err(PoolerError::TooOld {
                major: 1,
                minor: 20
            })
        ));
        assert!(matches!(
            judged((1, 21), 0),
            Err(PoolerError::StatementsNotTracked { capacity: 100 })
        ));
        assert!(matches!(
            judged((1, 21), 99),
            Err(PoolerError::CacheAboveLimit {
                capacity: 100,
                max_prepared_statements: 99
            })
        ));
    }

    #[test]
    fn the_mode_must_be_the_declared_one() {
        let judged =
            |pooler, statements, mode| judge(pooler, statements, 100, facts((1, 21), mode, 100));
        for (pooler, mode) in [
            (TRANSACTION, "session"),
            (TRANSACTION, "statement"),
            (SESSION, "transaction"),
            (SESSION, "statement"),
        ] {
            for statements in [Prepared, RawSql] {
                let error = judged(pooler, statements, mode).unwrap_err();
                assert!(
                    matches!(&error, PoolerError::Mode { actual, .. } if actual == mode),
                    "{error:?}"
                );
            }
        }
        assert!(judged(SESSION, Prepared, "session").is_ok());
    }

    #[test]
    fn raw_sql_alone_goes_through_any_version() {
        assert!(judge(TRANSACTION, RawSql, 100, facts((1, 8), "transaction", 0)).is_ok());
        assert!(judge(TRANSACTION, RawSql, 100, silent()).is_ok());
    }

    #[test]
    fn a_silent_console_needs_a_declaration_in_transaction_mode_alone() {
        let error = judge(TRANSACTION, Prepared, 100, silent()).unwrap_err();
        assert!(matches!(error, PoolerError::Console { .. }), "{error:?}");
        assert!(judge(SESSION, Prepared, 100, silent()).is_ok());
    }

    #[test]
    fn a_declaration_is_judged_like_the_console_which_has_the_last_word() {
        let declared = |minor, max_prepared_statements| PoolerStatements::Declared {
            major: 1,
            minor,
            max_prepared_statements,
        };
        assert!(judge(TRANSACTION, declared(21, 100), 100, silent()).is_ok());
        for refused in [declared(20, 100), declared(21, 0), declared(21, 99)] {
            assert!(judge(TRANSACTION, refused, 100, silent()).is_err());
        }
        let old = facts((1, 18), "transaction", 0);
        let error = judge(TRANSACTION, declared(21, 100), 100, old).unwrap_err();
        assert!(matches!(error, PoolerError::TooOld { .. }), "{error:?}");
    }

    #[test]
    fn session_mode_without_a_reset_hands_statements_on() {
        let mut said = facts((1, 18), "session", 0).unwrap();
        said.server_reset_query.clear();
        let error = judge(SESSION, Prepared, 100, Ok(said)).unwrap_err();
        assert!(matches!(error, PoolerError::NoReset), "{error:?}");
    }
}
