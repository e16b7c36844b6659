//! Small things that a tenant can fill, each with a bound.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
