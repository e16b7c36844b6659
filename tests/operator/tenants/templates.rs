//! Templates cost their own tenant alone.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
