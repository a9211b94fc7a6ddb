use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use super::*;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn poll<T>(self: &Arc<Self>, future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        let waker = Arc::clone(self).into();
        future.poll(&mut Context::from_waker(&waker))
    }

    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn flight() -> Flight<u32> {
    Flight::new(Instant(0))
}

fn loaded() -> Outcome<u32> {
    Outcome::Loaded(Arc::new(7), TagList::default())
}

fn is_loaded(outcome: Poll<Outcome<u32>>) -> bool {
    matches!(outcome, Poll::Ready(Outcome::Loaded(value, _)) if *value == 7)
}

#[test]
fn who_made_a_flight_is_woken_where_it_was_polled_last() {
    let flight = flight();
    let mut waiter = flight.first();
    let mut outcome = pin!(waiter.outcome());
    let (before, now) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    assert!(before.poll(outcome.as_mut()).is_pending());
    assert!(now.poll(outcome.as_mut()).is_pending());
    flight.tell(loaded());
    flight.tell(Outcome::Absent);
    assert_eq!((before.times(), now.times()), (0, 1));
    assert!(is_loaded(now.poll(outcome.as_mut())));
}

#[test]
fn who_joins_is_woken_as_well_and_who_comes_late_need_not_wait() {
    let flight = flight();
    let (mut first, mut joined) = (flight.first(), flight.join().unwrap());
    let mut late = flight.join().unwrap();
    {
        let (mut first, mut joined) = (pin!(first.outcome()), pin!(joined.outcome()));
        let woken = [Arc::new(Woken::default()), Arc::new(Woken::default())];
        assert!(woken[0].poll(first.as_mut()).is_pending());
        assert!(woken[1].poll(joined.as_mut()).is_pending());
        flight.tell(loaded());
        assert_eq!(woken.each_ref().map(|woken| woken.times()), [1, 1]);
        assert!(is_loaded(woken[0].poll(first.as_mut())));
        assert!(is_loaded(woken[1].poll(joined.as_mut())));
    }
    let woken = Arc::new(Woken::default());
    assert!(is_loaded(woken.poll(pin!(late.outcome()).as_mut())));
    assert!(flight.join().is_none());
}

#[test]
fn who_gives_up_is_not_kept_until_the_load_ends() {
    let flight = flight();
    let woken = Arc::new(Woken::default());
    let mut waiter = flight.first();
    assert!(woken.poll(pin!(waiter.outcome()).as_mut()).is_pending());
    assert!(flight.is_heard() && Arc::strong_count(&woken) == 2);
    drop(waiter);
    assert!(!flight.is_heard() && Arc::strong_count(&woken) == 1);
}
