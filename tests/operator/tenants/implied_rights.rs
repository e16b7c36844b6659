//! Rights on ServiceKeys and KeyProviders imply no others.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
