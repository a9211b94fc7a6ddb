use std::time::Duration;

use super::*;
use crate::remote::redis::RemoteMeters;
use crate::remote::redis::frame::Format;
use crate::remote::redis::journal::Journal;
use crate::remote::redis::server::Server;

/// Reads that are not sent, as if as many as may be were under way.
fn reads() -> Reads<u32> {
    let client = redis::Client::open("redis://127.0.0.1:1").unwrap();
    let meters = Arc::new(RemoteMeters::new("c"));
    let within = Duration::from_secs(10);
    let reader = Arc::new(Reader {
        server: Arc::new(Server::new(client, within, meters)),
        journal: Arc::new(Journal::default()),
        format: Format {
            codec: crate::Codec::Postcard,
            schema: 1,
            compress_above: None,
        },
        ttl: within,
    });
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let reads = Reads::start(&reader, "state".to_owned(), &tasks, stop);
    reads.inner.queue().trips = TRIPS;
    reads
}

fn ask(reads: &Reads<u32>) -> oneshot::Receiver<Read<u32>> {
    let (answer, answered) = oneshot::channel();
    let before = reads.inner.reader.journal.before_one(b"1").unwrap();
    let then = move |read| drop(answer.send(read));
    reads.read_one(b"1".to_vec(), before, true, Box::new(then));
    answered
}

/// However long more come than are sent at once: the age of the first is not that of all who come later,
/// who would be given up with it.
#[tokio::test(start_paused = true)]
async fn who_comes_later_is_not_as_old_as_those_who_came_first() {
    let reads = reads();
    let mut trips = Trips {
        inner: Arc::clone(&reads.inner),
        over: false,
    };
    let first = Instant::now();
    let mut asked: Vec<_> = (0..=MOST_AT_ONCE).map(|_| ask(&reads)).collect();
    for round in 0..3 {
        tokio::time::advance(Duration::from_secs(1)).await;
        asked.extend((0..MOST_AT_ONCE).map(|_| ask(&reads)));
        let batch = trips.next().unwrap();
        assert_eq!(batch.room.asks.len(), MOST_AT_ONCE);
        let age = batch.room.asks[0].since - first;
        assert_eq!(age, Duration::from_secs(round.max(1) - 1), "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_is_told_however_it_ends() {
    let reads = reads();
    let waits = ask(&reads);
    let mut trips = Trips {
        inner: Arc::clone(&reads.inner),
        over: false,
    };
    let batch = trips.next().unwrap();
    let comes_later = ask(&reads);
    drop(batch);
    assert!(matches!(waits.await, Ok(Read::Unavailable)));
    drop(trips);
    assert!(matches!(comes_later.await, Ok(Read::Unavailable)));
    reads.end();
    let too_late = ask(&reads);
    assert!(matches!(too_late.await, Ok(Read::Unavailable)));
}

/// Its destructors are a user's, for one.
#[tokio::test(start_paused = true)]
async fn what_is_done_with_a_read_may_panic_without_harm_to_the_others() {
    let reads = reads();
    let before = reads.inner.reader.journal.before_one(b"1").unwrap();
    let then: Then<u32> = Box::new(|_| panic!("then"));
    reads.read_one(b"1".to_vec(), before, true, then);
    let other = ask(&reads);
    let mut trips = Trips {
        inner: Arc::clone(&reads.inner),
        over: false,
    };
    drop(trips.next());
    assert!(matches!(other.await, Ok(Read::Unavailable)));
}
