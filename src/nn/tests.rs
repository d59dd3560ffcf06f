#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod composed;
mod conv;
mod distributions;
mod networks;
mod optimiser;
mod plain;
mod speed;
