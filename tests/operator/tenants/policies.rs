//! The admission policies that are shipped.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
