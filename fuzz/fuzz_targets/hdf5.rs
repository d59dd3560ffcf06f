//! HDF5 files of demonstrations in any layout.
#![no_main]

#[path = "../../tests/hostile/demonstrations.rs"]
#[allow(dead_code, reason = "the other targets use the rest")]
mod demonstrations;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| demonstrations::hdf5(bytes));
