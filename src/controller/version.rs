//! The order of versions of one object.

use kube::Resource;

/// A resourceVersion as the number that it is since Kubernetes says so (KEP-5504); 0 where it is none.
pub fn resource_version<K: Resource>(object: &K) -> u64 {
    number(object.meta().resource_version.as_deref())
}

/// The same of a bare text.
pub fn number(resource_version: Option<&str>) -> u64 {
    resource_version.and_then(|version| version.parse().ok()).unwrap_or_default()
}
