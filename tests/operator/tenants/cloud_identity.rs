//! The operator's own cloud identity goes to the cloud alone.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
