//! What an error's code says about the batch.

use crate::engine::Class;

/// By SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(in crate::engine) fn class(code: &str) -> Class {
    match code {
        // ON CONFLICT DO UPDATE met a row twice: the rows go in by themselves. A view's check
        // option; a value too long for its index.
        "21000" | "44000" | "54000" => Class::Row,
        // A trigger's: CASE without the row's case, an action it refuses, a row changed by another.
        "20000" | "09000" | "27000" => Class::Row,
        // serialization_failure, deadlock_detected, lock_not_available, and the server going
        // down, away, or not up yet.
        "40001" | "40P01" | "55P03" | "57P01" | "57P02" | "57P03" => Class::Transient,
        _ => match code.get(..2) {
            Some("22" | "23") => Class::Row,
            // connection_exception, insufficient_resources.
            Some("08" | "53") => Class::Transient,
            Some(class) if raised(class) => Class::Row,
            _ => Class::Fatal,
        },
    }
}

/// Whether errors of this class come from the code of a trigger: PL/pgSQL's own, the standard's
/// for exceptions of the user, and those that the standard leaves to implementations (5 to 9, I to
/// Z) without the ones that Postgres uses.
pub(super) fn raised(class: &str) -> bool {
    match class {
        "P0" | "45" => true,
        "53" | "54" | "55" | "57" | "58" | "72" | "XX" => false,
        _ => class.starts_with(|c: char| matches!(c, '5'..='9' | 'I'..='Z')),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgConnection;
    use sqlx::{AssertSqlSafe, Connection as _};

    use super::*;

    #[test]
    fn a_code_says_what_is_to_blame() {
        for code in [
            "23505", "22001", "P0001", "P0002", "45000", "QZ001", "99001", "20000", "09000",
            "27000",
        ] {
            assert_eq!(class(code), Class::Row, "{code}");
        }
        for code in ["40001", "40P01", "55P03", "08006", "53300", "57P01"] {
            assert_eq!(class(code), Class::Transient, "{code}");
        }
        for code in [
            "42P01", "25P02", "54001", "55000", "57014", "58030", "XX000", "HV000", "",
        ] {
            assert_eq!(class(code), Class::Fatal, "{code}");
        }
    }

    /// The function that looks for bad rows on the server must take the same errors for a row's
    /// fault.
    #[tokio::test]
    async fn the_server_takes_the_same_codes_for_a_rows_fault() {
        let Some(server) = testkit::Postgres::shared().await else {
            return;
        };
        let mut conn = PgConnection::connect(&server.url()).await.unwrap();
        let letters = || ('0'..='9').chain('A'..='Z');
        let classes = letters().flat_map(|a| letters().map(move |b| format!("{a}{b}")));
        let classes: Vec<String> = classes.collect();
        let mut codes: Vec<String> = Vec::new();
        for rest in ["000", "001", "002", "003", "P01", "P02", "P03", "ZZZ"] {
            codes.extend(classes.iter().map(|class| format!("{class}{rest}")));
        }
        let fault = include_str!("../../sql/row_fault.sql").replace("SQLSTATE", "code");
        assert_ne!(fault, include_str!("../../sql/row_fault.sql"));
        let sql = format!("SELECT code FROM unnest($1::text[]) AS given (code) WHERE {fault}");
        let server: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&codes)
            .fetch_all(&mut conn)
            .await
            .unwrap();
        let ours = codes.iter().filter(|code| class(code) == Class::Row);
        let ours: Vec<String> = ours.cloned().collect();
        assert_eq!(server, ours);
        assert!(ours.len() > 1_000 && ours.len() < codes.len() - 1_000);
    }
}
