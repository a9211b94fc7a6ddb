//! Counts the statements that sqlx runs, by its log.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::set_global_default;
use tracing::{Event, Metadata, Subscriber};

static STATEMENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Starts to listen. For the whole process, since SQLite's statements run on threads of sqlx.
pub(crate) fn listen() {
    // It fails if another test listens already.
    let _ = set_global_default(Log);
}

/// How many statements so far had `marker` in their text, which is to be one test's own.
pub(crate) fn with(marker: &str) -> usize {
    let statements = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
    statements.iter().filter(|sql| sql.contains(marker)).count()
}

struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Statement);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Statement;

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "db.statement" {
            let mut statements = STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
            statements.push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}
