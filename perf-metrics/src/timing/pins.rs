use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use axum::extract::MatchedPath;

use super::routes::Route;

/// Pins of a route at most: usual routers show one allocation for it, but `nest_service` makes one
/// for each request.
const EACH: u8 = 4;

/// Routes by the address of their names, which spares the search by content: a router shows the
/// same allocation for the same route, as a rule.
///
/// What is kept is a clone of what the router showed, so that no other name can come to lie at its
/// address. Only grows, up to its size; what finds no place is searched for by content.
#[derive(Debug)]
pub(super) struct Pins {
    /// A power of two, and at least two.
    slots: Box<[OnceLock<Pin>]>,
}

#[derive(Debug)]
struct Pin {
    path: MatchedPath,
    route: &'static Route,
}

/// How often a route was pinned.
#[derive(Debug, Default)]
pub(super) struct Pinned(AtomicU8);

impl Pins {
    /// For so many routes.
    pub(super) fn new(routes: usize) -> Self {
        let slots = (4 * routes).next_power_of_two().max(2);
        Self {
            slots: (0..slots).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The first of the two places where a name at this address may be; the second is beside it.
    #[inline]
    fn place(&self, name: &str) -> usize {
        // Fibonacci hashing: the upper bits of the product depend on all of the address.
        let product = (name.as_ptr().addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (product >> 32) as usize & (self.slots.len() - 1)
    }

    /// The route that is pinned to a place by this name.
    #[inline]
    fn at(&self, place: usize, name: &str) -> Option<&'static Route> {
        let pin = self.slots.get(place)?.get()?;
        // The pin keeps its name alive, so no other can be at this address.
        std::ptr::addr_eq(pin.path.as_str(), name).then_some(pin.route)
    }

    /// The route whose name is exactly this one, in the same place.
    #[inline]
    pub(super) fn get(&self, path: &MatchedPath) -> Option<&'static Route> {
        let name = path.as_str();
        let place = self.place(name);
        self.at(place, name).or_else(|| self.at(place ^ 1, name))
    }

    /// Finds the route by this allocation from now on, if there is room.
    #[cold]
    pub(super) fn add(&self, path: &MatchedPath, route: &'static Route) {
        if route
            .pinned
            .0
            .fetch_update(Relaxed, Relaxed, |n| (n < EACH).then_some(n + 1))
            .is_err()
        {
            return;
        }
        let mut pin = Pin {
            path: path.clone(),
            route,
        };
        let place = self.place(path.as_str());
        let places = [place, place ^ 1].map(|place| self.slots.get(place));
        for place in places.into_iter().flatten() {
            match place.set(pin) {
                Ok(()) => return,
                Err(refused) => pin = refused,
            }
        }
    }
}
