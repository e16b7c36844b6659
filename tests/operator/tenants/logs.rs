//! Logs hold no secrets.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
