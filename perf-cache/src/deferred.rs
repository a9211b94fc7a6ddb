//! Runs the destructors of values where they can do no harm.
//!
//! A value may die anywhere inside the engine: in an insertion that replaces it, in the
//! maintenance that a hit of another key happens to run, in the collection of garbage that another
//! thread left. Locks are held there, and a panic would leave work half done. So a value that dies
//! while its thread is in a [`Section`] is set aside, and destroyed when the outermost section ends.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

type Dead = Arc<dyn Any + Send + Sync>;

/// Apart from the dead themselves: it has no destructor, so it costs a hit next to nothing.
struct State {
    depth: Cell<usize>,
    any_dead: Cell<bool>,
}

thread_local! {
    static STATE: State = const {
        State { depth: Cell::new(0), any_dead: Cell::new(false) }
    };
    static DEAD: RefCell<Vec<Dead>> = const { RefCell::new(Vec::new()) };
}

/// While it lives, no value is destroyed on this thread. Take it before a lock, so that it is
/// dropped after the lock.
#[must_use]
pub(crate) struct Section(PhantomData<*const ()>);

/// Starts a section; they may nest.
#[inline]
pub(crate) fn section() -> Section {
    STATE.with(|state| state.depth.set(state.depth.get() + 1));
    Section(PhantomData)
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        STATE.with(|state| {
            if state.any_dead.get() && state.depth.get() == 1 {
                destroy_all(state);
            }
            state.depth.set(state.depth.get() - 1);
        });
    }
}

/// Lets go of a value: now, or when the outermost section of this thread ends.
pub(crate) fn drop_later<V: Send + Sync + 'static>(value: Arc<V>) {
    STATE.with(|state| {
        if state.depth.get() == 0 {
            return destroy(value);
        }
        let mut value = Some(value);
        // Fails while the thread is torn down.
        let set_aside = DEAD.try_with(|dead| dead.borrow_mut().extend(value.take().map(as_dead)));
        match set_aside {
            Ok(()) => state.any_dead.set(true),
            Err(_) => value.into_iter().for_each(destroy),
        }
    });
}

fn as_dead<V: Send + Sync + 'static>(value: Arc<V>) -> Dead {
    value
}

/// The depth stays above 0, so a destructor that uses a cache adds to the list instead of coming
/// here again.
#[cold]
fn destroy_all(state: &State) {
    let next = || DEAD.try_with(|dead| dead.borrow_mut().pop()).ok().flatten();
    while let Some(value) = next() {
        destroy(value);
    }
    state.any_dead.set(false);
}

/// Whoever happens to be here must not suffer from a destructor that panics; the panic hook has
/// reported it.
fn destroy<V: ?Sized>(value: Arc<V>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Bomb(Arc<AtomicUsize>);

    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("destructor");
        }
    }

    #[test]
    fn values_die_when_the_outermost_section_ends() {
        let died = Arc::new(AtomicUsize::new(0));
        let outer = section();
        {
            let _inner = section();
            drop_later(Arc::new(Bomb(Arc::clone(&died))));
        }
        drop_later(Arc::new(Bomb(Arc::clone(&died))));
        assert_eq!(died.load(Ordering::Relaxed), 0);
        drop(outer);
        assert_eq!(died.load(Ordering::Relaxed), 2);
        drop_later(Arc::new(Bomb(Arc::clone(&died))));
        assert_eq!(died.load(Ordering::Relaxed), 3);
    }

    /// Its destructor lets go of another one, inside a section as a call of a cache would.
    struct Chain(usize, Arc<AtomicUsize>);

    impl Drop for Chain {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
            if self.0 > 0 {
                let _section = section();
                drop_later(Arc::new(Chain(self.0 - 1, Arc::clone(&self.1))));
            }
        }
    }

    #[test]
    fn destructors_that_let_go_of_more_values_do_not_nest() {
        let died = Arc::new(AtomicUsize::new(0));
        let outer = section();
        drop_later(Arc::new(Chain(1_000_000, Arc::clone(&died))));
        drop(outer);
        assert_eq!(died.load(Ordering::Relaxed), 1_000_001);
    }
}
