//! What is said in the log. The tests of the crate itself have this file as well.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Notes what this thread says, for as long as it is there.
pub(crate) struct Log {
    noted: Noted,
    _subscriber: DefaultGuard,
    _other: Dispatch,
}

#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Vec<Said>>>);

#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) level: Level,
    /// As text; what is said itself is the `message`.
    pub(crate) fields: HashMap<&'static str, String>,
}

impl Log {
    pub(crate) fn start() -> Self {
        let noted = Noted::default();
        // While there is but one, other threads' tests, which have none, decide what it is asked for.
        let other = Dispatch::new(Noted::default());
        Self {
            _subscriber: tracing::subscriber::set_default(noted.clone()),
            noted,
            _other: other,
        }
    }

    /// All that has been said since this was asked last.
    pub(crate) fn take(&self) -> Vec<Said> {
        std::mem::take(&mut *self.noted.0.lock().unwrap())
    }
}

struct Fields(HashMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Noted {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(HashMap::new());
        event.record(&mut fields);
        let level = *event.metadata().level();
        let fields = fields.0;
        self.0.lock().unwrap().push(Said { level, fields });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
