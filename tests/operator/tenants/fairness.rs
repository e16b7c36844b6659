//! A tenant delays nobody but itself.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
