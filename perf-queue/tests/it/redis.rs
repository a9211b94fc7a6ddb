//! The Redis backend.

use perf_queue::Redis;

use crate::conformance::{Place, conformance, durable, nothing_is_lost, shared};
use crate::support::ms;

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

/// With an append-only file that is written at each command.
#[derive(Clone)]
struct OnItsOwn {
    url: String,
}

impl Place for OnItsOwn {
    type Backend = Redis;

    fn backend(&self, capacity: usize) -> Redis {
        Redis::connect(self.url.clone())
            .capacity(capacity)
            .response_timeout(ms(500))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_server_restarts_and_crashes_and_connections_are_killed() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let client = redis::Client::open(server.url()).unwrap();
    let command = async |args: &[&str]| {
        let mut conn = client.get_multiplexed_async_connection().await.unwrap();
        let mut cmd = redis::cmd(args[0]);
        cmd.arg(&args[1..]);
        let _: redis::RedisResult<redis::Value> = cmd.query_async(&mut conn).await;
    };
    // What was answered is on the disk.
    command(&["CONFIG", "SET", "appendfsync", "always"]).await;
    let place = OnItsOwn { url: server.url() };
    let faults = async {
        for fault in 0..12 {
            tokio::time::sleep(ms(150)).await;
            match fault % 4 {
                0 => command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await,
                1 => command(&["SCRIPT", "FLUSH"]).await,
                2 => {
                    server.crash().await;
                    server.restart().await;
                    command(&["CONFIG", "SET", "appendfsync", "always"]).await;
                }
                _ => {
                    server.stop().await;
                    server.restart().await;
                    command(&["CONFIG", "SET", "appendfsync", "always"]).await;
                }
            }
        }
    };
    nothing_is_lost(place, faults).await;
}
