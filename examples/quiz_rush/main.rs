//! `cargo run --release --bin quiz_rush`
//!
//! A quiz service before and after the five perf crates, under the same rush of users, each with
//! its messages. No server and no configuration: SQLite is embedded, everything else is in
//! process, and the requests are real HTTP over loopback.
//!
//! The conductor (this process, without a role) starts one process for the service and one for
//! the crowd of users with the messenger, so that the service's processor time is its own.

#![forbid(unsafe_code)]

mod api;
mod args;
mod causes;
mod child;
mod conductor;
mod crowd;
mod figure;
mod protocol;
mod quantiles;
mod report;
mod service;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Role};

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|rt| match args.role {
            Some(Role::Service(service)) => rt.block_on(service::run(&service)).map(|()| true),
            Some(Role::Crowd(crowd)) => rt.block_on(crowd::run(&crowd)).map(|()| true),
            None => rt.block_on(conductor::run(&args)),
        });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quiz_rush: {}", causes::of(&error));
            ExitCode::FAILURE
        }
    }
}
