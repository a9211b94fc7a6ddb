/// Statements that change a session for good, by how they begin.
const FOR_THE_SESSION: [&str; 5] = ["SET", "LISTEN", "PREPARE", "LOAD", "DISCARD"];

/// What may follow `SET` where it ends with the transaction.
const FOR_THE_TRANSACTION: [&str; 3] = ["LOCAL", "TRANSACTION", "CONSTRAINTS"];

/// Whether what begins a transaction leaves something in the session after the transaction's end,
/// as far as that can be seen without parsing SQL.
pub(super) fn outlives_it(sql: &str) -> bool {
    let sql = sql.to_ascii_uppercase();
    let session_lock = ["PG_ADVISORY_LOCK", "PG_TRY_ADVISORY_LOCK"];
    session_lock.iter().any(|lock| sql.contains(lock))
        || sql.split(';').any(|statement| {
            let mut words = statement.split_whitespace();
            let first = words.next().unwrap_or_default();
            let second = words.next().unwrap_or_default();
            FOR_THE_SESSION.contains(&first)
                && !(first == "SET" && FOR_THE_TRANSACTION.contains(&second))
        })
}

#[cfg(test)]
mod tests {
    use super::outlives_it;

    #[test]
    fn what_ends_with_the_transaction_may_begin_it() {
        for sql in [
            "BEGIN",
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "begin; set local statement_timeout = '5s'",
            "BEGIN; SET TRANSACTION READ ONLY; SET CONSTRAINTS ALL DEFERRED",
            "BEGIN; SELECT pg_advisory_xact_lock(1)",
            "BEGIN; SELECT 'offset'",
        ] {
            assert!(!outlives_it(sql), "{sql}");
        }
    }

    #[test]
    fn what_changes_the_session_may_not() {
        for sql in [
            "BEGIN; SET statement_timeout = '5s'",
            "set search_path = a; begin",
            "BEGIN;\nSET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "BEGIN; LISTEN orders",
            "BEGIN; SELECT pg_advisory_lock(1)",
            "BEGIN; SELECT pg_try_advisory_lock_shared(1)",
        ] {
            assert!(outlives_it(sql), "{sql}");
        }
    }
}
