//! The span around a handler.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use perf_queue::{EnqueueOptions, Queue};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::support::secs;

/// Each span, as its name and its fields.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut text = Text(attributes.metadata().name().to_owned());
        attributes.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_runs_in_a_span_with_the_trace_of_its_job() {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    let _default = tracing::subscriber::set_default(subscriber);
    let queue = Queue::<u32>::builder("mail").build().await.unwrap();
    let workers = queue.workers(1, |_, _| async {
        tokio::task::yield_now().await;
        let span = tracing::Span::current();
        assert_eq!(span.metadata().map(|it| it.name()), Some("job"));
        Ok(())
    });
    let workers = workers.spawn();
    let traced = EnqueueOptions::new().trace("00-1-2-01");
    let first = queue.enqueue_with(1, traced).await.unwrap();
    let second = queue.enqueue(2).await.unwrap();
    queue.drain().await.unwrap();
    assert_eq!(queue.stats().await.unwrap().completed, 2);
    assert_eq!(
        *spans.0.lock().unwrap(),
        [
            format!("job queue=mail id={first} attempt=1 traceparent=00-1-2-01"),
            format!("job queue=mail id={second} attempt=1"),
        ]
    );
    workers.shutdown(secs(0)).await;
}
