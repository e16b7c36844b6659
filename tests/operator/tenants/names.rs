//! Names and words give one tenant nothing of another.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
