//! The versions. Only the Go modules in `testkit/controlplane/` and `testkit/controlplane-oldest/` define them.

use crate::{
    cache,
    go::{oldest_go, required_version},
};

pub(super) const GO_MOD: &str = include_str!("../../../controlplane/go.mod");
pub(super) const GO_SUM: &str = include_str!("../../../controlplane/go.sum");

pub(super) const OLDEST_GO_MOD: &str = include_str!("../../../controlplane-oldest/go.mod");
pub(super) const OLDEST_GO_SUM: &str = include_str!("../../../controlplane-oldest/go.sum");

/// The oldest release of Kubernetes, with its `v`.
pub(super) fn oldest_kubernetes_version() -> &'static str {
    required_version(OLDEST_GO_MOD, "k8s.io/kubernetes")
}

/// The release of Kubernetes, with its `v`.
pub(super) fn kubernetes_version() -> &'static str {
    required_version(GO_MOD, "k8s.io/kubernetes")
}

/// The release of etcd, with its `v`.
pub(super) fn etcd_version() -> &'static str {
    required_version(GO_MOD, "go.etcd.io/etcd/server/v3")
}

/// The oldest Go that can build them.
pub(super) fn go_version() -> &'static str {
    oldest_go(GO_MOD)
}

/// The part of the cache's path that separates sets of binaries.
pub(super) fn cache_key() -> String {
    let digest = cache::digest(&[GO_SUM]);
    format!("{}-{digest}-{}-{}", kubernetes_version(), std::env::consts::OS, std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_mod_holds_every_version_that_is_needed() {
        assert!(kubernetes_version().starts_with("v1."));
        assert!(etcd_version().starts_with("v3."));
        assert!(oldest_kubernetes_version().starts_with("v1."));
        assert!(go_version().starts_with("1."));
    }

    #[test]
    fn the_cache_key_can_be_a_folder_name() {
        let key = cache_key();
        assert!(key.starts_with(kubernetes_version()));
        assert!(!key.contains('/') && !key.contains(' '));
    }
}
