//! A tenant can fill its own share of the memory, and no more.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
