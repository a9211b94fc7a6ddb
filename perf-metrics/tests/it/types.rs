use std::fmt::Debug;

use perf_metrics::timing::{InvalidPattern, ResponseFuture, RunningRequest, TimedBody, Timing};
use perf_metrics::{
    AlreadyInstalled, BuildError, Monitor, MonitorBuilder, MonitorRecorder, RequestHead, Snapshot,
    TimingLayer, history, snapshot,
};

fn shared<T: Send + Sync + Debug>() {}

#[test]
fn public_types_are_send_sync_and_debug() {
    shared::<AlreadyInstalled>();
    shared::<BuildError>();
    shared::<InvalidPattern>();
    shared::<Monitor>();
    shared::<MonitorBuilder>();
    shared::<MonitorRecorder>();
    shared::<RequestHead<'_>>();
    shared::<ResponseFuture<()>>();
    shared::<RunningRequest>();
    shared::<Snapshot>();
    shared::<TimedBody<()>>();
    shared::<Timing<()>>();
    shared::<TimingLayer>();
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
