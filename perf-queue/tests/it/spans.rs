//! The span around a handler.

use std::fmt::Debug;
use std::future::pending;
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

/// Writes down in which span it is dropped.
struct Noted(Arc<Mutex<Vec<Option<&'static str>>>>);

impl Drop for Noted {
    fn drop(&mut self) {
        let span = tracing::Span::current();
        let name = span.metadata().map(|it| it.name());
        self.0.lock().unwrap().push(name);
    }
}

/// What it does as it is dropped at the deadline was not seen as its job's.
#[tokio::test(start_paused = true)]
async fn a_handler_is_dropped_in_its_span_wherever_it_ends() {
    let subscriber = tracing_subscriber::registry().with(Spans::default());
    let _default = tracing::subscriber::set_default(subscriber);
    let queue = Queue::<u32>::builder("mail").build().await.unwrap();
    let noted = Arc::new(Mutex::new(Vec::new()));
    let its = Arc::clone(&noted);
    let workers = queue.workers(1, move |job, _| {
        let noted = Noted(Arc::clone(&its));
        async move {
            let _noted = noted;
            tokio::task::yield_now().await;
            match job {
                0 => Ok(()),
                1 => panic!("no"),
                _ => pending().await,
            }
        }
    });
    let workers = workers.spawn();
    queue.enqueue_batch(vec![0, 1, 2]).await.unwrap();
    tokio::time::sleep(secs(1_000)).await;
    assert_eq!(workers.shutdown(secs(1)).await.released, 1);
    let noted = noted.lock().unwrap();
    assert!(noted.len() > 2);
    assert!(noted.iter().all(|name| *name == Some("job")), "{noted:?}");
}
