//! The program as users run it: whole commands in temporary folders, with budgets so small that nothing is learned.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod chain;
mod convert;
mod device;
mod errors;
mod experiments;
mod faults;
mod film;
mod interruption;
mod kept_scene;
mod minari;
mod program;
mod resuming;
mod same_bits;
mod watch;
