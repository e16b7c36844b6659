//! What a tenant learns, or reaches, by naming an address.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
