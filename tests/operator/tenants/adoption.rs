//! Keys that exist already are taken over only by those who may.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
