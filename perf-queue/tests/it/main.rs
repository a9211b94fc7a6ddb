//! The queue as its users see it. Time is tokio's paused clock, unless a test says otherwise.

#[cfg(test)]
mod basics;
