//! Experiment files.
#![no_main]

#[path = "../../tests/hostile/texts.rs"]
#[allow(dead_code, reason = "the other targets use the rest")]
mod texts;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| texts::experiment(bytes));
