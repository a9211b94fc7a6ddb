use std::fmt::Debug;

use perf_metrics::timing::{InvalidPattern, ResponseFuture, RunningRequest, TimedBody, Timing};
use perf_metrics::{
    AlertOptions, AlreadyInstalled, Budget, BuildError, Limit, LimitReport, Monitor,
    MonitorBuilder, MonitorRecorder, RequestHead, RouteReport, Snapshot, Thresholds, TimingLayer,
    Verdict, history, snapshot,
};

fn shared<T: Send + Sync + Debug>() {}

#[test]
fn public_types_are_send_sync_and_debug() {
    shared::<AlertOptions>();
    shared::<AlreadyInstalled>();
    shared::<Budget>();
    shared::<BuildError>();
    shared::<InvalidPattern>();
    shared::<Limit>();
    shared::<LimitReport>();
    shared::<Monitor>();
    shared::<MonitorBuilder>();
    shared::<MonitorRecorder>();
    shared::<RequestHead<'_>>();
    shared::<ResponseFuture<()>>();
    shared::<RouteReport>();
    shared::<RunningRequest>();
    shared::<Snapshot>();
    shared::<Thresholds>();
    shared::<TimedBody<()>>();
    shared::<Timing<()>>();
    shared::<TimingLayer>();
    shared::<Verdict>();
    #[cfg(feature = "axum")]
    shared::<perf_metrics::CheckKind>();
    #[cfg(feature = "axum")]
    shared::<perf_metrics::CheckOptions>();
    shared::<history::BatchSample>();
    shared::<history::CacheSample>();
    shared::<history::HistorySample>();
    shared::<history::PoolSample>();
    shared::<history::QueueSample>();
    shared::<snapshot::Batch>();
    shared::<snapshot::Cache>();
    shared::<snapshot::DatabasePool>();
    shared::<snapshot::MessageQueue>();
    shared::<snapshot::Pool>();
    shared::<snapshot::PoolStatus>();
    shared::<snapshot::Process>();
    shared::<snapshot::Quantiles>();
    shared::<snapshot::Requests>();
    shared::<snapshot::Route>();
}
