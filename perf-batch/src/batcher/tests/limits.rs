use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_lone_row_goes_out_at_once() {
    let fake = Fake::new();
    let batcher = fake.batcher(|_| {});
    let started = Instant::now();
    batcher.add(row(1)).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(fake.written(), [[1]]);
}

#[tokio::test(start_paused = true)]
async fn rows_that_come_during_a_write_are_the_next_batch() {
    let fake = Fake::with(MANY, 0);
    let batcher = fake.batcher(|_| {});
    let mut tickets = vec![batcher.try_add(row(0)).unwrap()];
    others_idle().await;
    tickets.extend((1..5).map(|id| batcher.try_add(row(id)).unwrap()));
    others_idle().await;
    assert_eq!(fake.begun(), [[0]]);
    fake.writes.add_permits(2);
    for ticket in tickets {
        ticket.await.unwrap();
    }
    assert_eq!(fake.written(), [vec![0], vec![1, 2, 3, 4]]);
}

#[tokio::test(start_paused = true)]
async fn rows_that_come_during_the_wait_for_a_connection_go_along() {
    let fake = Fake::with(0, MANY);
    let batcher = fake.batcher(|_| {});
    let first = batcher.try_add(row(0)).unwrap();
    others_idle().await;
    let second = batcher.try_add(row(1)).unwrap();
    fake.connections.add_permits(1);
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(fake.written(), [[0, 1]]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_at_most_its_size() {
    let fake = Fake::new();
    let batcher = fake.batcher(|o| o.limits.rows = 3);
    let tickets: Vec<_> = (0..7).map(|id| batcher.try_add(row(id)).unwrap()).collect();
    for ticket in tickets {
        ticket.await.unwrap();
    }
    assert_eq!(fake.written(), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_at_most_its_bytes() {
    let fake = Fake::new();
    let batcher = fake.batcher(|o| o.limits.bytes = 10);
    let sizes = [4, 4, 4, 10, 1, 9];
    let tickets: Vec<_> = (0..)
        .zip(sizes)
        .map(|(id, bytes)| batcher.try_add(sized(id, bytes)).unwrap())
        .collect();
    for ticket in tickets {
        ticket.await.unwrap();
    }
    assert_eq!(fake.written(), [vec![0, 1], vec![2], vec![3], vec![4, 5]]);
}

#[tokio::test(start_paused = true)]
async fn linger_waits_for_others_and_holds_no_connection_meanwhile() {
    let fake = Fake::with(1, MANY);
    let batcher = fake.batcher(|o| o.limits.linger = secs(5));
    let started = Instant::now();
    let first = batcher.try_add(row(0)).unwrap();
    tokio::time::sleep(secs(3)).await;
    assert_eq!(fake.connections.available_permits(), 1);
    batcher.add(row(1)).await.unwrap();
    assert_eq!(started.elapsed(), secs(5));
    first.await.unwrap();
    assert_eq!(fake.written(), [[0, 1]]);
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_does_not_linger() {
    for full in [0, 1] {
        let fake = Fake::new();
        let batcher = fake.batcher(|o| {
            o.limits.linger = secs(5);
            o.limits.rows = if full == 0 { 2 } else { 100 };
            o.limits.bytes = if full == 1 { 2 } else { 100 };
        });
        let started = Instant::now();
        let first = batcher.try_add(row(0)).unwrap();
        others_idle().await;
        batcher.add(row(1)).await.unwrap();
        first.await.unwrap();
        assert!(started.elapsed() < secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_turns_rows_away_until_there_is_room() {
    let fake = Fake::with(MANY, 0);
    let batcher = fake.batcher(|o| o.memory = 10);
    let first = batcher.try_add(sized(0, 6)).unwrap();
    let full = batcher.try_add(sized(1, 5)).unwrap_err();
    assert!(matches!(&full, AddError::Full(row) if row.id == 1));
    assert!(full.is_retryable());
    assert_eq!(full.into_row().unwrap().id, 1);
    fake.writes.add_permits(1);
    first.await.unwrap();
    let again = batcher.try_add(sized(1, 10)).unwrap();
    fake.writes.add_permits(1);
    again.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn room_is_had_in_the_order_of_asking() {
    let fake = Fake::with(MANY, 0);
    let batcher = fake.batcher(|o| {
        o.memory = 10;
        o.limits.rows = 1;
    });
    let first = batcher.try_add(sized(0, 10)).unwrap();
    let mut adds = Vec::new();
    for (id, bytes) in [(1, 8), (2, 1), (3, 8), (4, 1)] {
        let batcher = batcher.clone();
        adds.push(tokio::spawn(
            async move { batcher.add(sized(id, bytes)).await },
        ));
        others_idle().await;
    }
    fake.writes.add_permits(1);
    first.await.unwrap();
    others_idle().await;
    // There are two bytes, but row 3 stands in front.
    assert!(matches!(batcher.try_add(row(9)), Err(AddError::Full(_))));
    fake.writes.add_permits(MANY);
    for add in adds {
        add.await.unwrap().unwrap();
    }
    assert_eq!(fake.written().concat(), [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_row_over_the_limits_says_which() {
    let fake = Fake::new();
    for (memory, bytes) in [(10, 100), (100, 10)] {
        let batcher = fake.batcher(|o| {
            o.memory = memory;
            o.limits.bytes = bytes;
        });
        let error = batcher.add(sized(1, 11)).await.unwrap_err();
        assert!(matches!(
            &error,
            AddError::TooLarge { row, bytes: 11, limit: 10 } if row.id == 1
        ));
        let text = "a row of 11 bytes is over the limit of 10: \
            raise max_batch_bytes and buffer_memory above it";
        assert_eq!(error.to_string(), text);
        batcher.add(sized(2, 10)).await.unwrap();
    }
}
