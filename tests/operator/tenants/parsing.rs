//! An object that can't be read hides no other.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
