use std::ops::{Index, IndexMut};

use super::jobs::{Job, NIL};

/// Jobs in one allocation.
const CHUNK: usize = 256;

/// Jobs by number. In chunks, so that to grow moves none, and that little is held for nothing.
#[derive(Debug)]
pub(super) struct Store<T> {
    chunks: Vec<Vec<Job<T>>>,
    /// The first of the places that are free. Each links to the next.
    free: u32,
}

impl<T> Store<T> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: NIL,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    // The capacity of a queue is below `u32::MAX`, so a number fits.
    #[inline]
    pub(super) fn insert(&mut self, job: Job<T>) -> u32 {
        if self.free != NIL {
            let id = self.free;
            self.free = self[id].next;
            self[id] = job;
            return id;
        }
        let full = self.chunks.len() * CHUNK;
        if let Some(last) = self.chunks.last_mut().filter(|last| last.len() < CHUNK) {
            last.push(job);
            return (full - CHUNK + last.len() - 1) as u32;
        }
        let mut chunk = Vec::with_capacity(CHUNK);
        chunk.push(job);
        self.chunks.push(chunk);
        full as u32
    }

    /// Lets another job have the place of one whose payload is taken.
    #[inline]
    pub(super) fn free(&mut self, id: u32) {
        self[id].next = self.free;
        self.free = id;
    }
}

impl<T> Index<u32> for Store<T> {
    type Output = Job<T>;

    #[inline]
    fn index(&self, id: u32) -> &Job<T> {
        &self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Store<T> {
    #[inline]
    fn index_mut(&mut self, id: u32) -> &mut Job<T> {
        &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }
}
