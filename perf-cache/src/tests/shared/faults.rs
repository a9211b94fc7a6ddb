//! Messages that are lost, and a tier that is cut off, dead or slow.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_lost_message_is_noticed_by_the_next_check() {
    let server = Server::new();
    let ((a, _), (b, at_b)) = (process(&server).await, process(&server).await);
    let origin = Origin::of(7);
    origin.get(&b, 1).await;
    at_b.deaf.store(true, SeqCst);
    origin.value.store(8, SeqCst);
    a.invalidate(&1).await.unwrap();
    at_b.deliver();
    assert_eq!(origin.get(&b, 1).await, 7);
    at_b.beat();
    assert_eq!(origin.get(&b, 1).await, 8);
    // And from then on it is trusted again.
    at_b.deaf.store(false, SeqCst);
    at_b.beat();
    let loads = origin.loads();
    origin.get(&b, 1).await;
    assert_eq!(origin.loads(), loads);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_cut_off_serves_nothing_that_is_older_than_the_bound() {
    let server = Server::new();
    let ((a, _), (b, at_b)) = (process(&server).await, process(&server).await);
    let origin = Origin::of(7);
    origin.get(&b, 1).await;
    at_b.down.store(true, SeqCst);
    origin.value.store(8, SeqCst);
    a.invalidate(&1).await.unwrap();
    advance(BOUND - MS).await;
    assert_eq!(origin.get(&b, 1).await, 7);
    advance(MS).await;
    assert_eq!(origin.get(&b, 1).await, 8);
    // What it loads meanwhile it serves for as long.
    advance(BOUND - MS).await;
    let loads = origin.loads();
    assert_eq!(origin.get(&b, 1).await, 8);
    assert_eq!(origin.loads(), loads);
    advance(MS).await;
    origin.get(&b, 1).await;
    assert_eq!(origin.loads(), loads + 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_tier_costs_no_reader_anything_and_defers_invalidations() {
    let server = Server::new();
    let ((a, at_a), (b, at_b)) = (process(&server).await, process(&server).await);
    let origin = Origin::of(7);
    origin.get(&a, 1).await;
    settle().await;
    origin.get(&b, 1).await;
    at_a.down.store(true, SeqCst);
    origin.value.store(8, SeqCst);
    let began = Instant::now();
    assert_eq!(a.invalidate(&1).await.unwrap(), Invalidation::Deferred);
    assert_eq!(origin.get(&a, 1).await, 8, "never an older one here");
    assert_eq!(a.insert(2, 5).await.unwrap(), Invalidation::Deferred);
    assert_eq!(a.get(&2).await.as_deref(), Some(&5));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(server.has(&1) && !server.has(&2));
    assert_eq!(origin.get(&b, 1).await, 7, "others may have it");
    at_a.down.store(false, SeqCst);
    at_a.tell_deferred();
    at_b.deliver();
    assert!(!server.has(&1));
    assert_eq!(origin.get(&b, 1).await, 8);
}

#[tokio::test(start_paused = true)]
async fn a_deferred_invalidation_keeps_the_tiers_old_value_from_this_process() {
    let server = Server::new();
    let (a, at_a) = process(&server).await;
    let origin = Origin::of(7);
    origin.get(&a, 1).await;
    settle().await;
    at_a.down.store(true, SeqCst);
    origin.value.store(8, SeqCst);
    assert_eq!(a.invalidate(&1).await.unwrap(), Invalidation::Deferred);
    at_a.down.store(false, SeqCst);
    assert!(server.has(&1));
    assert_eq!(a.get(&1).await, None);
    assert_eq!(origin.get(&a, 1).await, 8);
    assert_eq!(a.stats().remote_errors, 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_invalidation_holds_here_and_is_told_later() {
    let server = Server::new();
    let ((a, at_a), (b, _)) = (process(&server).await, process(&server).await);
    let origin = Origin::of(7);
    origin.get(&a, 1).await;
    settle().await;
    origin.value.store(8, SeqCst);
    at_a.latency(|| 10 * MS);
    timeout(MS, a.invalidate(&1)).await.unwrap_err();
    assert!(server.has(&1));
    at_a.latency(|| Duration::ZERO);
    assert_eq!(origin.get(&a, 1).await, 8);
    at_a.tell_deferred();
    assert!(!server.has(&1));
    assert_eq!(origin.get(&b, 1).await, 8);
}

#[tokio::test(start_paused = true)]
async fn a_slow_tier_holds_nobody_longer_than_the_timeouts_of_the_cache() {
    let server = Server::new();
    let with = |b: Builder<u64, u64>| b.hard_timeout(50 * MS);
    let (a, at_a) = process_with(&server, with).await;
    at_a.latency(|| 500 * MS);
    let began = Instant::now();
    let load = |key| async move { Ok::<_, Infallible>(key) };
    a.get_or_load(&1, load).await.unwrap_err();
    assert_eq!(began.elapsed(), 50 * MS);
    sleep(1_000 * MS).await;
    assert_eq!(a.get(&1).await.as_deref(), Some(&1), "the load went on");
}
