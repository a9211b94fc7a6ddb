use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use perf_cache::Cache;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Counts the warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicU64>);

impl Subscriber for Warnings {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        if *event.metadata().level() == Level::WARN {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_failed_load_is_traced_as_a_warning_only_if_nobody_waits_for_it() {
    let warnings = Warnings::default();
    let _subscriber = tracing::subscriber::set_default(warnings.clone());
    let warned = || warnings.0.load(Ordering::Relaxed);
    let cache = Cache::<u64, u64>::builder("test").build().await.unwrap();
    let fails = |_| async { Err::<u64, _>("down") };
    cache.get_or_load(&1, fails).await.unwrap_err();
    assert_eq!(warned(), 0);
    {
        let caller = pin!(cache.get_or_load(&1, fails));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(caller.poll(&mut cx).is_pending());
    }
    while cache.stats().loads_failed < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(warned(), 1);
}
