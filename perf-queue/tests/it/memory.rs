//! The in-memory backend.

use perf_queue::Memory;

use crate::conformance::{Place, conformance};

#[derive(Clone)]
struct InMemory;

impl Place for InMemory {
    type Backend = Memory;

    fn backend(&self, capacity: usize) -> Memory {
        Memory::bounded(capacity)
    }
}

async fn place() -> Option<InMemory> {
    Some(InMemory)
}

conformance!(place);
