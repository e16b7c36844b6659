//! The permissions that the operator needs, in the form of access reviews.

use std::{collections::BTreeSet, fmt};

use k8s_openapi::api::authorization::v1::ResourceAttributes;

use crate::runtime::LEASE;

/// One permission: a verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Right {
    group: &'static str,
    /// The plural, with a subresource after a `/`.
    resource: &'static str,
    verb: &'static str,
    /// `None` means the whole cluster.
    namespace: Option<String>,
    /// `None` means all objects.
    name: Option<&'static str>,
}

/// Group, resource, verbs.
type AccessRule = (&'static str, &'static str, &'static [&'static str]);

const GROUP: &str = "servicekeys.dev";

/// The permissions in each served namespace.
const IN_EACH_NAMESPACE: [AccessRule; 7] = [
    (GROUP, "servicekeys", &["list", "watch", "patch"]),
    (GROUP, "servicekeys/status", &["update"]),
    (GROUP, "keyproviders", &["list", "watch", "patch"]),
    (GROUP, "keyproviders/status", &["update"]),
    ("", "secrets", &["get", "list", "watch", "create", "update", "patch", "delete"]),
    // The admission policy on marks checks this verb. No request uses it.
    (GROUP, "secrets", &["mark"]),
    ("events.k8s.io", "events", &["create", "patch"]),
];

/// The further permissions for serving the whole cluster.
const IN_THE_CLUSTER: [AccessRule; 3] = [
    (GROUP, "clusterkeyproviders", &["list", "watch", "patch"]),
    (GROUP, "clusterkeyproviders/status", &["update"]),
    ("", "namespaces", &["list", "watch"]),
];

/// The permissions for an election. RBAC can't limit `create` by name, because the object has none yet.
const ELECTION: [(&str, Option<&str>); 3] = [("create", None), ("get", Some(LEASE)), ("update", Some(LEASE))];

/// The permissions to serve these namespaces, or the whole cluster, with an election in this namespace.
pub(super) fn needed(namespaces: &Option<BTreeSet<String>>, elects_in: Option<&str>) -> Vec<Right> {
    let mut needed = Vec::new();
    match namespaces {
        None => {
            needed.extend(IN_EACH_NAMESPACE.iter().chain(&IN_THE_CLUSTER).flat_map(|rule| rights(rule, None)))
        }
        Some(names) => needed.extend(
            names.iter().flat_map(|name| IN_EACH_NAMESPACE.iter().flat_map(|rule| rights(rule, Some(name)))),
        ),
    }
    needed.extend(elects_in.into_iter().flat_map(|namespace| {
        ELECTION.map(|(verb, name)| Right {
            group: "coordination.k8s.io",
            resource: "leases",
            verb,
            namespace: Some(namespace.to_owned()),
            name,
        })
    }));
    needed
}

fn rights<'a>(
    (group, resource, verbs): &'a AccessRule,
    namespace: Option<&'a String>,
) -> impl Iterator<Item = Right> + use<'a> {
    verbs.iter().map(move |verb| Right { group, resource, verb, namespace: namespace.cloned(), name: None })
}

impl Right {
    pub(super) fn attributes(&self) -> ResourceAttributes {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (self.resource, None),
        };
        ResourceAttributes {
            group: Some(self.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource,
            verb: Some(self.verb.to_owned()),
            namespace: self.namespace.clone(),
            name: self.name.map(str::to_owned),
            ..ResourceAttributes::default()
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        f.write_str("`")?;
        if let Some(name) = self.name {
            write!(f, " `{name}`")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in the namespace `{namespace}`"),
            None => f.write_str(" in the whole cluster"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed_text(namespaces: Option<&[&str]>, elects_in: Option<&str>) -> Vec<String> {
        let names = namespaces.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        needed(&names, elects_in).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn single_namespaces_take_rights_in_these_alone() {
        let needed = needed_text(Some(&["a", "b"]), None);
        assert_eq!(needed.len(), 2 * (3 + 1 + 3 + 1 + 7 + 1 + 2));
        assert!(needed.iter().all(|right| right.ends_with("`a`") || right.ends_with("`b`")), "{needed:?}");
    }

    #[test]
    fn a_right_is_said_in_words() {
        let needed = needed_text(None, Some("system"));
        for said in [
            "list `servicekeys.servicekeys.dev` in the whole cluster",
            "create `secrets` in the whole cluster",
            "update `servicekeys/status.servicekeys.dev` in the whole cluster",
            "create `leases.coordination.k8s.io` in the namespace `system`",
            "update `leases.coordination.k8s.io` `servicekey-operator` in the namespace `system`",
        ] {
            assert!(needed.iter().any(|right| right == said), "{said}: {needed:#?}");
        }
    }
}
