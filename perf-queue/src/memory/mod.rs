mod backend;
mod dead;
mod ends;
#[cfg(feature = "sqlite")]
mod gate;
mod lock;
#[cfg(test)]
mod model;
mod names;
#[cfg(feature = "sqlite")]
mod past;
mod push;
mod store;

use std::future::ready;
use std::hash::Hash;
use std::sync::Arc;

use crate::BuildError;
use crate::backend::{Boxed, Open, Parts, QueueBackend, Ready};
#[cfg(feature = "sqlite")]
pub(crate) use past::Past;
#[cfg(feature = "sqlite")]
pub(crate) use store::Restored;
pub(crate) use store::{Settings, Store};

/// The in-memory backend: jobs live in the process and are lost with it.
#[derive(Debug, Clone)]
pub struct Memory {
    capacity: usize,
    dead_letters: usize,
}

impl Memory {
    /// Holds up to `jobs` jobs, those that run among them. When it is full,
    /// [`enqueue`](crate::Queue::enqueue) waits and [`try_enqueue`](crate::Queue::try_enqueue) gives
    /// the job back. Defaults to 100,000.
    #[must_use]
    pub const fn bounded(jobs: usize) -> Self {
        Self {
            capacity: jobs,
            dead_letters: 1_000,
        }
    }

    /// Keeps up to `letters` dead letters, beside the queue's own bound. When there are more, the
    /// oldest is dropped, logged and counted ([`Stats::dead_dropped`](crate::Stats)); 0 keeps none.
    /// Defaults to 1,000.
    #[must_use]
    pub const fn dead_letters(mut self, letters: usize) -> Self {
        self.dead_letters = letters;
        self
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        // Jobs are numbered by `u32`, of which the largest value means "none".
        let max = (u32::MAX - 1) as usize;
        if self.capacity == 0 || self.capacity > max {
            return Err(BuildError::Bound {
                option: "Memory::bounded",
                value: self.capacity,
                max,
            });
        }
        Ok(())
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::bounded(100_000)
    }
}

impl<T, K> QueueBackend<T, K> for Memory
where
    T: Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
{
}

impl<T, K> Open<T, K> for Memory
where
    T: Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
{
    fn open(self, parts: Parts<T, K>) -> Boxed<'static, Result<Ready<T>, BuildError>> {
        Box::pin(ready(self.store(parts)))
    }
}

impl Memory {
    pub(crate) fn store<T, K>(self, parts: Parts<T, K>) -> Result<Ready<T>, BuildError>
    where
        T: Send + 'static,
        K: Hash + Eq + Clone + Send + 'static,
    {
        self.check()?;
        let dead_letters = self.dead_letters;
        let rules = parts.limits.rules()?;
        parts.signals.room.add_permits(self.capacity());
        let settings = Settings {
            memory: self,
            #[cfg(feature = "sqlite")]
            past: None,
            limits: parts.limits,
            rules,
            rate_per_key: parts.rate_per_key,
            keeps_letters: true,
            dead_letters: parts.dead_letters.unwrap_or(dead_letters),
            signals: parts.signals,
            meters: parts.meters,
        };
        Ok(Ready(Arc::new(Store::new(settings, parts.key))))
    }
}
