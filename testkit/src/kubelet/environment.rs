//! The environment of a container, read from Secrets and ConfigMaps when the container starts.

use std::collections::{BTreeMap, btree_map::Entry};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVar, EnvVarSource, Pod, Secret};
use kube::{Api, Client, ResourceExt as _};

/// The Secrets and ConfigMaps of the namespace.
#[derive(Clone)]
pub(super) struct Objects {
    namespace: String,
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
}

impl Objects {
    pub(super) fn new(client: &Client, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            secrets: Api::namespaced(client.clone(), namespace),
            config_maps: Api::namespaced(client.clone(), namespace),
        }
    }

    /// A Secret, if it exists. The error is a message.
    pub(super) async fn secret(&self, name: &str) -> Result<Option<Secret>, String> {
        self.secrets.get_opt(name).await.map_err(|error| format!("can't read secret `{name}`: {error}"))
    }
}

/// The variables of one container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) variables: BTreeMap<String, String>,
    /// The resourceVersion of each Secret that the variables are from.
    pub(super) secrets: BTreeMap<String, String>,
}

/// Reads the environment of a container. Each object is read once, so all its entries are of one version. The error is
/// a message for the status of the container.
pub(super) async fn resolve(
    pod: &Pod,
    container: &Container,
    objects: &Objects,
) -> Result<Environment, String> {
    let mut sources = Sources { objects, secrets: BTreeMap::new(), config_maps: BTreeMap::new() };
    let mut variables = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        variables.extend(sources.all_entries(source).await?);
    }
    for EnvVar { name, value, value_from } in container.env.iter().flatten() {
        let value = match value_from {
            Some(source) => sources.entry(pod, source).await?,
            None => Some(expand(value.as_deref().unwrap_or_default(), &variables)),
        };
        match value {
            Some(value) => drop(variables.insert(name.clone(), value)),
            None => drop(variables.remove(name)),
        }
    }
    let version = |(name, secret): (String, Option<Secret>)| Some((name, secret?.resource_version()?));
    Ok(Environment { variables, secrets: sources.secrets.into_iter().filter_map(version).collect() })
}

/// The objects that one environment has been read from so far; `None` if the object does not exist.
struct Sources<'a> {
    objects: &'a Objects,
    secrets: BTreeMap<String, Option<Secret>>,
    config_maps: BTreeMap<String, Option<ConfigMap>>,
}

impl Sources<'_> {
    /// All entries of an object, as variables.
    async fn all_entries(&mut self, source: &EnvFromSource) -> Result<BTreeMap<String, String>, String> {
        let mut variables = BTreeMap::new();
        if let Some(reference) = &source.secret_ref {
            let optional = reference.optional == Some(true);
            variables.extend(self.secret(&reference.name, optional).await?.unwrap_or_default());
        }
        if let Some(reference) = &source.config_map_ref {
            let optional = reference.optional == Some(true);
            variables.extend(self.config_map(&reference.name, optional).await?.unwrap_or_default());
        }
        let prefix = source.prefix.as_deref().unwrap_or_default();
        Ok(variables.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)).collect())
    }

    /// The value of one variable; `None` if its optional source does not exist.
    async fn entry(&mut self, pod: &Pod, source: &EnvVarSource) -> Result<Option<String>, String> {
        if let Some(selector) = &source.secret_key_ref {
            let optional = selector.optional == Some(true);
            let entries = self.secret(&selector.name, optional).await?;
            return self.select("Secret", &selector.name, &selector.key, optional, entries);
        }
        if let Some(selector) = &source.config_map_key_ref {
            let optional = selector.optional == Some(true);
            let entries = self.config_map(&selector.name, optional).await?;
            return self.select("ConfigMap", &selector.name, &selector.key, optional, entries);
        }
        let path = source.field_ref.as_ref().map(|field| field.field_path.as_str());
        Ok(match path {
            Some("metadata.name") => pod.metadata.name.clone(),
            Some("metadata.namespace") => pod.metadata.namespace.clone(),
            Some("metadata.uid") => pod.metadata.uid.clone(),
            _ => None,
        })
    }

    fn select(
        &self,
        kind: &str,
        name: &str,
        key: &str,
        optional: bool,
        entries: Option<BTreeMap<String, String>>,
    ) -> Result<Option<String>, String> {
        let value = entries.and_then(|mut entries| entries.remove(key));
        if value.is_none() && !optional {
            let namespace = &self.objects.namespace;
            return Err(format!("couldn't find key {key} in {kind} {namespace}/{name}"));
        }
        Ok(value)
    }

    async fn secret(
        &mut self,
        name: &str,
        optional: bool,
    ) -> Result<Option<BTreeMap<String, String>>, String> {
        let secret = match self.secrets.entry(name.to_owned()) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => unread.insert(self.objects.secret(name).await?),
        };
        let Some(secret) = secret else { return absent("secret", name, optional) };
        let mut entries = BTreeMap::new();
        for (key, value) in secret.data.iter().flatten() {
            let text = String::from_utf8(value.0.clone());
            let text = text.map_err(|_| format!("entry `{key}` of secret `{name}` is not UTF-8"))?;
            entries.insert(key.clone(), text);
        }
        Ok(Some(entries))
    }

    async fn config_map(
        &mut self,
        name: &str,
        optional: bool,
    ) -> Result<Option<BTreeMap<String, String>>, String> {
        let config_map = match self.config_maps.entry(name.to_owned()) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => {
                let read = self.objects.config_maps.get_opt(name).await;
                unread.insert(read.map_err(|error| format!("can't read configmap `{name}`: {error}"))?)
            }
        };
        match config_map {
            Some(config_map) => Ok(Some(config_map.data.clone().unwrap_or_default())),
            None => absent("configmap", name, optional),
        }
    }
}

fn absent<T>(kind: &str, name: &str, optional: bool) -> Result<Option<T>, String> {
    if optional { Ok(None) } else { Err(format!("{kind} \"{name}\" not found")) }
}

/// Replaces each `$(NAME)` of a variable. `$$` is a dollar sign, and a reference to an unknown variable stays as it is.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        match reference {
            Some((name, after)) => {
                match variables.get(name) {
                    Some(value) => expanded.push_str(value),
                    None => expanded.extend(["$(", name, ")"]),
                }
                rest = after;
            }
            None => expanded.push('$'),
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_the_kubelet_expands_them() {
        let variables = BTreeMap::from([("USER".to_owned(), "app".to_owned())]);
        for (text, expanded) in [
            ("plain", "plain"),
            ("$(USER)@db", "app@db"),
            ("$$(USER)", "$(USER)"),
            ("$(cat file) $(USER)", "$(cat file) app"),
            ("$USER costs $", "$USER costs $"),
            ("$(USER", "$(USER"),
        ] {
            assert_eq!(expand(text, &variables), expanded, "{text}");
        }
    }
}
