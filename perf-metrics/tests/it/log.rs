//! The events of `tracing`, kept to be looked at.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// The fields of an event, its message and level among them.
pub(crate) type Line = BTreeMap<String, String>;

#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<Line>>>);

impl Lines {
    /// Keeps the events of this thread until the guard is dropped.
    pub(crate) fn of_this_thread() -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self::default();
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// Those with this message.
    pub(crate) fn with(&self, message: &str) -> Vec<Line> {
        let lines = self.0.lock().unwrap();
        let with = lines.iter().filter(|line| line["message"] == message);
        with.cloned().collect()
    }
}

/// The values of a line's fields.
pub(crate) fn fields<'a>(line: &'a Line, names: &[&str]) -> Vec<Option<&'a str>> {
    let field = |name: &&str| line.get(*name).map(String::as_str);
    names.iter().map(field).collect()
}

struct Fields<'a>(&'a mut Line);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        self.0.insert(field.name().to_owned(), value);
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::new();
        event.record(&mut Fields(&mut line));
        line.insert("level".to_owned(), event.metadata().level().to_string());
        self.0.lock().unwrap().push(line);
    }
}
