//! Frames with a right checksum whose numbers nobody writes.

use std::time::Duration;

use crate::RefreshAhead;
use crate::remote::Read;
use crate::remote::redis::Codec;
use crate::remote::redis::frame::{About, Format};

use super::support::*;

const ENDS: [u64; 6] = [0, 1, i64::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX];

/// What stands in Redis under a key.
fn stored(expires: u64, stamp: u64, load_time: Duration) -> Vec<u8> {
    let format = Format {
        codec: Codec::Postcard,
        schema: 1,
        compress_above: None,
    };
    let about = About {
        stamp,
        load_time,
        ..About::default()
    };
    let frame = format.write(&i64::MIN, &about).unwrap();
    [&[7; 16][..], &expires.to_be_bytes(), &frame].concat()
}

/// A value whose load began at a sequence that the server has not come to is a miss, as is one of before all
/// that it knows. When it expires is clamped to the time to live of the tier, and how long its load took
/// only says that it is to be refreshed.
#[tokio::test]
async fn numbers_at_their_ends_are_clamped_or_make_it_a_miss() {
    let Some(tier) = tier().await else { return };
    let url = testkit::Redis::shared().await.unwrap().url();
    let client = redis::Client::open(url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let (by_script, plainly) = (open::<u32, i64>(&tier, None), open::<u32, i64>(&tier, None));
    plainly.reads().always_plainly();
    // Makes the state.
    by_script.lease(0).await;
    let now: u64 = command(&url, &["HGET", &by_script.state(), "seq"])
        .await
        .unwrap();
    let stamps = ENDS.into_iter().chain([now, now + 1]);
    let times = stamps.flat_map(|stamp| ENDS.map(|expires| (stamp, expires)));
    let cache = crate::Cache::builder("c")
        .jitter(0.99)
        .time_to_live(Duration::MAX)
        .stale_while_revalidate(Duration::MAX)
        .stale_if_error(Duration::MAX)
        .refresh_ahead(RefreshAhead::XFetch { beta: f64::MAX })
        .remote(open::<u32, i64>(&tier, None), None);
    let cache = cache.build().await.unwrap();
    for ((stamp, expires), key) in times.zip(1_u32..) {
        let load_time = [Duration::ZERO, Duration::MAX][key as usize % 2];
        let mut set = redis::cmd("SET");
        set.arg(by_script.name(&key));
        set.arg(stored(expires, stamp, load_time));
        let () = set.query_async(&mut connection).await.unwrap();
        for remote in [&by_script, &plainly] {
            match remote.look(key, false).await {
                Read::Value(shared) => {
                    assert_eq!((stamp, *shared.value), (now, i64::MIN), "{expires}");
                    let ttl = match expires {
                        0 | 1 => Duration::ZERO,
                        _ => tier.ttl,
                    };
                    assert_eq!(shared.ttl, ttl, "{expires}");
                    let longest = Duration::from_micros(u64::MAX);
                    assert_eq!(shared.load_time, load_time.min(longest));
                }
                Read::Missing(_) => assert_ne!(stamp, now, "{expires}"),
                Read::Unavailable => panic!("{stamp} {expires}"),
            }
        }
        // And a cache that keeps and refreshes it.
        for _ in 0..3 {
            let load = async |_| Ok::<_, std::convert::Infallible>(1);
            let value = *cache.get_or_load(&key, load).await.unwrap();
            assert!(value == 1 || stamp == now, "{value} of {stamp} {expires}");
        }
    }
    assert_eq!(cache.stats().loads_failed, 0);
}
