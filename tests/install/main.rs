//! The files in `deploy/`: the real Helm renders them, the real kustomize builds them, and a real API server accepts
//! them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chart;
mod crds_are_upgraded;
mod manifests_are_accepted;
mod plain_manifests;
mod policies_are_enforced;
mod users_get_their_rights;
mod values_are_checked;
