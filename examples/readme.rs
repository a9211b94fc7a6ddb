//! The examples of the workspace's README, compiled and run as doctests.

#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
