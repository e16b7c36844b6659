//! Exports the simulation's `getrandom`, so that crates which look the symbol up at run time find it too.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Other systems have another source of random numbers, so no run can be repeated there.
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol=getrandom");
    }
}
