use crate::BackendError;
use crate::postgres::NAME;

/// What leads from each version of the schema to the next, the first from nothing to version 1, each in
/// the order in which it is run. What was released stays as it is: a later version of the crate adds
/// to the end.
pub(super) const MIGRATIONS: &[&[&str]] = &[&[
    include_str!("sql/schema.sql"),
    include_str!("sql/tables.sql"),
    include_str!("sql/limits.sql"),
    include_str!("sql/settle.sql"),
    include_str!("sql/claim.sql"),
    include_str!("sql/exchange.sql"),
    include_str!("sql/enqueue.sql"),
    include_str!("sql/counts.sql"),
    include_str!("sql/verbs.sql"),
]];

/// Of functions that are called from outside: whatever the session has set, they find their tables,
/// and use the indices though a table that fills and empties all the time has no useful statistics.
const SET: &str = "SET search_path = {schema}, pg_catalog, pg_temp \
     SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off \
     SET enable_mergejoin = off SET enable_sort = off SET plan_cache_mode = force_generic_plan SET jit = off";

/// All statements that make the schema, to be run in one transaction.
pub(super) fn migrations(schema: &str) -> String {
    let all = MIGRATIONS.iter().zip(1..);
    all.map(|(parts, version)| migration(schema, parts, version))
        .collect()
}

/// The statements that make this version out of the one before.
pub(super) fn migration(schema: &str, parts: &[&str], version: i32) -> String {
    let mut text = format!("-- Version {version}.\n{}", parts.concat());
    text.push_str("INSERT INTO {schema}.migrations (version) VALUES ({version});\n");
    text.replace("{version}", &version.to_string())
        .replace("{set}", SET)
        .replace("{literal}", &format!("'{}'", schema.replace('\'', "''")))
        .replace("{schema}", &quoted(schema))
}

/// The name as an identifier of SQL's.
pub(super) fn quoted(schema: &str) -> String {
    format!("\"{}\"", schema.replace('"', "\"\""))
}

/// Postgres would cut a longer name short, and so take one schema for another.
pub(super) fn check(schema: &str) -> Result<(), BackendError> {
    if schema.is_empty() || schema.len() > 63 || schema.contains(['\0', '{', '}', '$', '\\']) {
        return Err(BackendError::Unfit {
            backend: NAME,
            reason: format!(
                "the schema {schema:?} is no name that Postgres keeps: give 1 to 63 bytes without \
                 braces, dollars, backslashes or NUL"
            ),
        });
    }
    Ok(())
}
