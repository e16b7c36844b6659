//! The parts of a pod that the kubelet models. It runs no pod that needs another one, because a test would then show
//! less than it seems to.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

/// Fields that the kubelet implements, and fields without a meaning for local processes.
const POD: &[&str] = &[
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "dnsPolicy",
    "enableServiceLinks",
    "hostname",
    "imagePullSecrets",
    "initContainers",
    "nodeName",
    "nodeSelector",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "restartPolicy",
    "schedulerName",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "subdomain",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
];
const CONTAINER: &[&str] = &[
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "name",
    "ports",
    "readinessProbe",
    "resizePolicy",
    "resources",
    "securityContext",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
];
const ENVIRONMENT_SOURCE: &[&str] = &["configMapKeyRef", "fieldRef", "secretKeyRef"];
const FIELDS: &[&str] = &["metadata.name", "metadata.namespace", "metadata.uid"];
const MOUNT: &[&str] = &["mountPath", "name", "readOnly", "subPath"];
const PROBE: &[&str] = &[
    "exec",
    "failureThreshold",
    "initialDelaySeconds",
    "periodSeconds",
    "successThreshold",
    "timeoutSeconds",
];
const VOLUME: &[&str] = &["emptyDir", "name", "projected", "secret"];
const PROJECTION: &[&str] = &["secret"];

/// Each part of the pod that is not modelled, as a path with the reason. Empty if the kubelet can run the pod.
pub(super) fn refusals(spec: &PodSpec) -> Vec<String> {
    let spec = match serde_json::to_value(spec) {
        Ok(spec) => spec,
        Err(error) => return vec![format!("spec: {error}")],
    };
    let mut found = Vec::new();
    check_fields(&spec, "spec", POD, &mut found);
    for list in ["initContainers", "containers"] {
        for (path, container) in items(&spec, "spec", list) {
            check_container(container, &path, &mut found);
        }
    }
    for (path, volume) in items(&spec, "spec", "volumes") {
        check_fields(volume, &path, VOLUME, &mut found);
        for (path, source) in items(&volume["projected"], &format!("{path}.projected"), "sources") {
            check_fields(source, &path, PROJECTION, &mut found);
        }
    }
    found
}

fn check_container(container: &Value, path: &str, found: &mut Vec<String>) {
    check_fields(container, path, CONTAINER, found);
    check_fields(&container["readinessProbe"], &format!("{path}.readinessProbe"), PROBE, found);
    let program = container["command"][0].as_str();
    if !program.is_some_and(|program| program.starts_with('/')) {
        found.push(format!("{path}.command: the absolute path of a local program is required"));
    }
    for (path, variable) in items(container, path, "env") {
        let path = format!("{path}.valueFrom");
        check_fields(&variable["valueFrom"], &path, ENVIRONMENT_SOURCE, found);
        if let Some(field) = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str()
            && !FIELDS.contains(&field)
        {
            found.push(format!("{path}.fieldRef: `{field}` is not modelled"));
        }
    }
    let mounts = items(container, path, "volumeMounts");
    for (path, mount) in &mounts {
        check_fields(mount, path, MOUNT, found);
        let place = mount_path(mount);
        if place.is_empty() || place.split('/').any(|part| part == "..") {
            found.push(format!("{path}.mountPath: `/{place}` is not modelled"));
        }
        if mounts.iter().any(|(_, other)| mount_path(other).starts_with(&format!("{place}/"))) {
            found.push(format!("{path}.mountPath: a mount inside of `/{place}` is not modelled"));
        }
    }
}

fn mount_path(mount: &Value) -> &str {
    mount["mountPath"].as_str().unwrap_or_default().trim_matches('/')
}

fn check_fields(object: &Value, path: &str, modelled: &[&str], found: &mut Vec<String>) {
    let fields = object.as_object().into_iter().flat_map(|object| object.keys());
    let others = fields.filter(|field| !modelled.contains(&field.as_str()));
    found.extend(others.map(|field| format!("{path}.{field} is not modelled")));
}

/// The items of a list field, each with its path.
fn items<'a>(object: &'a Value, path: &str, list: &str) -> Vec<(String, &'a Value)> {
    let items = object[list].as_array().into_iter().flatten().enumerate();
    items.map(|(number, item)| (format!("{path}.{list}[{number}]"), item)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(container: Value, volumes: Value) -> Vec<String> {
        let mut container = container;
        container["name"] = json!("main");
        let spec = json!({"containers": [container], "volumes": volumes});
        refusals(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn a_pod_of_modelled_parts_is_not_refused() {
        let container = json!({
            "command": ["/bin/true"],
            "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "readinessProbe": {"exec": {"command": ["/bin/true"]}, "periodSeconds": 1},
            "volumeMounts": [{"name": "creds", "mountPath": "/etc/creds"}, {"name": "work", "mountPath": "/work"}],
        });
        let volumes =
            json!([{"name": "creds", "secret": {"secretName": "creds"}}, {"name": "work", "emptyDir": {}}]);
        assert_eq!(refused(container, volumes), Vec::<String>::new());
    }

    #[test]
    fn each_other_part_is_named() {
        let mount = |path: &str| json!({"name": "creds", "mountPath": path});
        for (container, expected) in [
            (json!({}), "spec.containers[0].command: the absolute path of a local program is required"),
            (
                json!({"command": ["true"]}),
                "spec.containers[0].command: the absolute path of a local program is required",
            ),
            (
                json!({"command": ["/bin/true"], "livenessProbe": {"exec": {"command": ["/bin/true"]}}}),
                "spec.containers[0].livenessProbe is not modelled",
            ),
            (
                json!({"command": ["/bin/true"], "readinessProbe": {"tcpSocket": {"port": 1}}}),
                "spec.containers[0].readinessProbe.tcpSocket is not modelled",
            ),
            (
                json!({"command": ["/bin/true"], "volumeMounts": [mount("/etc"), mount("/etc/creds")]}),
                "spec.containers[0].volumeMounts[0].mountPath: a mount inside of `/etc` is not modelled",
            ),
            (
                json!({"command": ["/bin/true"], "volumeMounts": [mount("/../creds")]}),
                "spec.containers[0].volumeMounts[0].mountPath: `/../creds` is not modelled",
            ),
        ] {
            assert_eq!(refused(container, json!([])), [expected]);
        }
        let volumes = json!([
            {"name": "host", "hostPath": {"path": "/"}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        ]);
        let expected = [
            "spec.volumes[0].hostPath is not modelled",
            "spec.volumes[1].projected.sources[0].serviceAccountToken is not modelled",
        ];
        assert_eq!(refused(json!({"command": ["/bin/true"]}), volumes), expected);
    }
}
