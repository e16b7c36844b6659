//! The versions, read from the Go module in `testkit/controlplane/`, their only home.

use sha2::{Digest as _, Sha256};

pub(super) const GO_MOD: &str = include_str!("../../../controlplane/go.mod");
pub(super) const GO_SUM: &str = include_str!("../../../controlplane/go.sum");

/// The release of Kubernetes, with its `v`.
pub(super) fn kubernetes_version() -> &'static str {
    module_version("k8s.io/kubernetes")
}

/// The release of etcd, with its `v`.
pub(super) fn etcd_version() -> &'static str {
    module_version("go.etcd.io/etcd/server/v3")
}

/// The oldest Go that can build them.
pub(super) fn go_version() -> &'static str {
    GO_MOD.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or_default()
}

/// What tells one cached set of binaries from another.
pub(super) fn cache_key() -> String {
    let digest = Sha256::digest(GO_SUM.as_bytes());
    let hash = super::download::hex(&digest[..6]);
    format!("{}-{hash}-{}-{}", kubernetes_version(), std::env::consts::OS, std::env::consts::ARCH,)
}

/// From a `require` line; a unit test holds that those asked for are there.
fn module_version(module: &str) -> &'static str {
    GO_MOD
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let rest = line.strip_prefix("require ").unwrap_or(line);
            rest.strip_prefix(module)?.strip_prefix(' ')?.split_whitespace().next()
        })
        .find(|version| version.starts_with('v'))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_mod_holds_every_version_that_is_needed() {
        assert!(kubernetes_version().starts_with("v1."));
        assert!(etcd_version().starts_with("v3."));
        assert!(go_version().starts_with("1."));
    }

    #[test]
    fn the_cache_key_can_be_a_folder_name() {
        let key = cache_key();
        assert!(key.starts_with(kubernetes_version()));
        assert!(!key.contains('/') && !key.contains(' '));
    }
}
