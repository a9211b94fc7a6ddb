use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::Method;
use rapidhash::fast::RandomState;

use super::cells::Present;
use super::exclude::Excluded;
use super::label::{METHODS, method_index};
use super::series::RouteSeries;

/// One route and its series by method.
#[derive(Debug)]
pub(super) struct Route {
    /// Where it is found.
    pub(super) index: usize,
    pub(super) name: Arc<str>,
    pub(super) excluded: Excluded,
    pub(super) upgraded: OnceLock<Present>,
    #[cfg(feature = "axum")]
    pub(super) pinned: super::pins::Pinned,
    pub(super) methods: [OnceLock<Box<RouteSeries>>; METHODS.len()],
}

impl Route {
    pub(super) fn new(index: usize, name: &str, excluded: Excluded) -> Self {
        Self {
            index,
            name: name.into(),
            excluded,
            upgraded: OnceLock::new(),
            #[cfg(feature = "axum")]
            pinned: Default::default(),
            methods: Default::default(),
        }
    }

    /// The series of a method, if it is kept.
    #[inline]
    pub(super) fn series(&self, method: &Method) -> Option<&RouteSeries> {
        let kept = self.methods.get(method_index(method))?;
        kept.get().map(Box::as_ref)
    }
}

/// A set of routes that only grows, up to its limit, and is read without a lock.
///
/// Found by the content of their names: routers do not promise to show the same allocation for
/// the same route. Open addressing in an array twice as large as the limit, so a search ends at an
/// empty slot after a step or two; what is found is never moved.
#[derive(Debug)]
pub(super) struct Routes {
    slots: Box<[OnceLock<Box<Route>>]>,
    hasher: RandomState,
    len: AtomicUsize,
    max: usize,
    growing: Mutex<()>,
}

/// What a search found.
enum Found<'a> {
    Route(&'a Route),
    Room(usize, &'a OnceLock<Box<Route>>),
    Nothing,
}

impl Routes {
    /// The greatest limit: the array for it takes 2 MiB.
    pub(super) const MOST: usize = 1 << 16;
    /// The length of that array.
    pub(super) const SLOTS: usize = 2 * Self::MOST;

    /// A set for up to `max` routes, at most [`MOST`](Self::MOST).
    pub(super) fn new(max: usize) -> Self {
        let max = max.min(Self::MOST);
        let slots = (2 * max).next_power_of_two();
        Self {
            slots: (0..slots).map(|_| OnceLock::new()).collect(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
            max,
            growing: Mutex::new(()),
        }
    }

    /// The route of this index.
    pub(super) fn at(&self, index: usize) -> Option<&Route> {
        self.slots.get(index)?.get().map(Box::as_ref)
    }

    /// The route of this name, added if there is room; `None` if there is not.
    #[inline]
    pub(super) fn get(&self, name: &str, excluded: impl FnOnce() -> Excluded) -> Option<&Route> {
        match self.find(name) {
            Found::Route(route) => Some(route),
            _ => self.add(name, excluded),
        }
    }

    #[cold]
    fn add(&self, name: &str, excluded: impl FnOnce() -> Excluded) -> Option<&Route> {
        if self.len.load(Ordering::Relaxed) >= self.max {
            return None;
        }
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been first, or may have taken the last place.
        match self.find(name) {
            Found::Route(route) => Some(route),
            Found::Room(index, slot) if self.len.load(Ordering::Relaxed) < self.max => {
                self.len.fetch_add(1, Ordering::Relaxed);
                Some(slot.get_or_init(|| Box::new(Route::new(index, name, excluded()))))
            }
            Found::Room(..) | Found::Nothing => None,
        }
    }

    #[inline]
    fn find(&self, name: &str) -> Found<'_> {
        let mask = self.slots.len() - 1;
        let start = self.hasher.hash_one(name) as usize;
        for step in 0..=mask {
            let index = start.wrapping_add(step) & mask;
            let Some(slot) = self.slots.get(index) else {
                break;
            };
            match slot.get() {
                Some(route) if *route.name == *name => return Found::Route(route),
                Some(_) => {}
                None => return Found::Room(index, slot),
            }
        }
        Found::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'a>(routes: &'a Routes, name: &str) -> Option<&'a Route> {
        let route = routes.get(name, || Excluded::Never)?;
        assert!(
            routes
                .at(route.index)
                .is_some_and(|at| std::ptr::eq(at, route))
        );
        Some(route)
    }

    #[test]
    fn a_route_is_found_by_its_name_wherever_that_is_stored() {
        let routes = Routes::new(100);
        let name = |i: usize| format!("/{i}/{{id}}");
        let first: Vec<_> = (0..100).map(|i| get(&routes, &name(i)).unwrap()).collect();
        for (i, route) in first.iter().enumerate() {
            assert!(std::ptr::eq(get(&routes, &name(i)).unwrap(), *route));
            assert_eq!(*route.name, *name(i));
        }
    }

    #[test]
    fn beyond_the_limit_there_is_no_room_and_nothing_is_remembered() {
        let routes = Routes::new(3);
        let known = |i: usize| get(&routes, &format!("/{i}")).is_some();
        assert!((0..3).all(known));
        assert!(!(3..1000).any(known));
        assert!((0..3).all(known));
        assert_eq!(routes.slots.iter().filter(|s| s.get().is_some()).count(), 3);
    }

    #[test]
    fn a_limit_of_zero_leaves_no_room_at_all() {
        assert!(get(&Routes::new(0), "/").is_none());
    }

    #[test]
    fn an_absurd_limit_is_lowered() {
        assert_eq!(Routes::new(usize::MAX).max, Routes::MOST);
    }

    #[test]
    fn threads_that_race_for_the_last_places_do_not_exceed_the_limit() {
        let routes = Routes::new(10);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let routes = &routes;
                scope.spawn(move || {
                    for i in 0..100 {
                        get(routes, &format!("/{}", (i + thread * 13) % 100));
                    }
                });
            }
        });
        let taken = routes.slots.iter().filter_map(OnceLock::get);
        let names: std::collections::HashSet<_> = taken.map(|route| &route.name).collect();
        assert_eq!(names.len(), 10);
    }

    #[test]
    fn of_two_that_race_for_the_last_place_one_gets_it() {
        for _ in 0..1000 {
            let routes = Routes::new(1);
            let ready = AtomicUsize::new(0);
            let add = |name| {
                // A barrier that wakes threads wakes them one after the other.
                ready.fetch_add(1, Ordering::SeqCst);
                while ready.load(Ordering::SeqCst) < 2 {
                    std::hint::spin_loop();
                }
                get(&routes, name).is_some()
            };
            let added = std::thread::scope(|scope| {
                let other = scope.spawn(|| add("/a"));
                [add("/b"), other.join().unwrap()]
            });
            assert!(added[0] != added[1], "{added:?}");
        }
    }
}
