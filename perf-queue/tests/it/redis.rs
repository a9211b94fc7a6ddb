//! The Redis backend.

use perf_queue::Redis;

use crate::conformance::{Place, conformance, durable, shared};

#[derive(Clone)]
struct OnRedis {
    server: testkit::Redis,
    prefix: String,
}

impl Place for OnRedis {
    type Backend = Redis;

    fn backend(&self, capacity: usize) -> Redis {
        Redis::connect(self.server.url())
            .prefix(self.prefix.clone())
            .capacity(capacity)
            // The server of the tests keeps nothing.
            .allow_data_loss()
    }
}

async fn place() -> Option<OnRedis> {
    let server = testkit::Redis::shared().await?;
    let prefix = testkit::unique("queue");
    Some(OnRedis { server, prefix })
}

conformance!(place);
durable!(place);
shared!(place);
