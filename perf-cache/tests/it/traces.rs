use std::pin::pin;
use std::task::{Context, Waker};

use perf_cache::Cache;
use tracing::Level;

use crate::logs::Log;

#[tokio::test]
async fn a_failed_load_is_traced_as_a_warning_only_if_nobody_waits_for_it() {
    let log = Log::start();
    let warned = || {
        let said = log.take().into_iter();
        said.filter(|said| said.level == Level::WARN).count()
    };
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
