//! What the administrator of a ClusterKeyProvider permits.

use super::abuse::Abuse;

pub const ABUSES: &[Abuse] = &[];
