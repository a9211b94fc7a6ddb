//! Checks of the workspace as a whole. The quick one runs with every `cargo test`; those that
//! build many times are ignored there:
//! `cargo test -p testkit --test workspace -- --ignored --nocapture`.

#[cfg(test)]
mod cargo;
#[cfg(test)]
mod direction;
#[cfg(test)]
mod features;
#[cfg(test)]
mod standalone;
