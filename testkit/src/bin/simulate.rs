//! probe
use std::collections::HashMap;
fn main() {
    seeded_entropy::seed(7);
    let m: HashMap<u32,u32> = (0..10).map(|i| (i,i)).collect();
    println!("{:?} {}", m.keys().collect::<Vec<_>>(), uuid::Uuid::new_v4());
    let m: ahash::AHashMap<u32,u32> = (0..10).map(|i| (i,i)).collect();
    println!("{:?}", m.keys().collect::<Vec<_>>());
}
