//! probe
use testkit::simulation::{Settings, run, seed_process};
fn main() {
    let seed: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let is_shown = std::env::args().nth(2).is_some();
    seed_process(seed);
    let outcome = run(&Settings { seed, only: None, is_shown }).unwrap();
    println!("seed {seed}: {:?} {:x?} {:?} {:?}", outcome.keys, outcome.digest, outcome.happened, outcome.time);
    for violation in outcome.violations { println!("  {violation}"); }
}
