//! Helm refuses wrong values with a clear message, and valid values have the documented effect.

use kube::api::DynamicObject;
use rstest::rstest;
use serde_json::json;
use testkit::go_tool::{GoTool, GoToolError};

use crate::chart::{folder, only, render, render_with, template, title, values};

#[tokio::test]
async fn helm_lint_finds_nothing_with_any_values() {
    let helm = GoTool::helm().await.unwrap();
    let chart = folder();
    for files in
        [&[][..], &["values-ha"], &["values-hardened"], &["everything"], &["namespaces"], &["little"]]
    {
        let files: Vec<_> = files.iter().map(|name| values(name).display().to_string()).collect();
        let mut arguments = vec!["lint", "--strict", chart.to_str().unwrap()];
        arguments.extend(files.iter().flat_map(|file| ["--values", file]));
        let said = helm.run(arguments).await.unwrap();
        assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
    }
}

#[rstest]
#[case::unknown("replica=2", "additional properties 'replica' not allowed")]
#[case::unknown_below("image.tags=1", "at '/image': additional properties 'tags' not allowed")]
#[case::text_for_number("replicas=two", "at '/replicas': got string, want integer")]
#[case::duration("operator.checkInterval=10days", "'10days' does not match pattern")]
#[case::lease_without_unit("leaderElection.leaseDuration=15", "at '/leaderElection/leaseDuration'")]
#[case::digest("image.digest=sha256:abc", "'sha256:abc' does not match pattern")]
#[case::address("operator.allowCidrs={10.0.0.1}", "at '/operator/allowCidrs/0'")]
#[case::scope("operator.denyCidrs={billing=10.0.0.0/8}", "at '/operator/denyCidrs/0'")]
#[case::host(
    "ibmCloud.trustedProfiles.hosts={https://iam.example.com}",
    "at '/ibmCloud/trustedProfiles/hosts/0'"
)]
#[case::policy("policies.secretMarks=Yes", "at '/policies/secretMarks'")]
#[case::pattern("secrets.types.denied={a*b}", "at '/secrets/types/denied/0'")]
#[case::egress_without_api_server(
    "networkPolicy.limitEgress.enabled=true",
    "needs `networkPolicy.limitEgress.apiServerCidrs`"
)]
#[case::namespace("namespaces={Training}", "at '/namespaces/0'")]
#[case::namespace_twice("namespaces={a,a}", "at '/namespaces': items at 0 and 1 are equal")]
#[case::log_format("log.format=text", "at '/log/format': value must be one of")]
#[case::port("http.port=80", "at '/http/port': minimum: got 80, want 1,024")]
#[case::label("podLabels.team=1", "at '/podLabels/team': got number, want string")]
#[case::two_without_election(
    "replicas=2,leaderElection.enabled=false",
    "`replicas: 2` needs `leaderElection.enabled: true`"
)]
#[case::two_monitors("serviceMonitor.enabled=true,podMonitor.enabled=true", "counted twice")]
#[case::monitor_without_service(
    "serviceMonitor.enabled=true,service.create=false",
    "`serviceMonitor.enabled: true` needs `service.create: true`"
)]
#[case::nobody("serviceAccount.create=false", "needs `serviceAccount.name`")]
#[tokio::test]
async fn a_wrong_value_is_refused(#[case] value: &str, #[case] words: &str) {
    match template(&["--set", value]).await {
        Err(GoToolError::Refused { output, .. }) => {
            assert!(output.contains(words), "`{words}` is not in:\n{output}");
        }
        other => panic!("`{value}` is not refused: {other:?}"),
    }
}

#[tokio::test]
async fn two_replicas_come_with_all_that_keeps_one_at_work() {
    let objects = render_with(&["values-ha"]).await;
    let deployment = &only(&objects, "Deployment").data;
    assert_eq!(deployment["spec"]["replicas"], 2);
    let pod = &deployment["spec"]["template"]["spec"];
    let args = pod["containers"][0]["args"].as_array().unwrap();
    assert!(args.contains(&json!("--leader-elect")), "{args:?}");
    assert_eq!(only(&objects, "PodDisruptionBudget").data["spec"]["maxUnavailable"], 1);
    let labels = &deployment["spec"]["selector"];
    for constraint in pod["topologySpreadConstraints"].as_array().unwrap() {
        assert_eq!(&constraint["labelSelector"], labels);
    }
    assert_eq!(&only(&objects, "PodDisruptionBudget").data["spec"]["selector"], labels);
}

/// Each list of addresses also reaches its flag.
#[tokio::test]
async fn the_hardened_operator_refuses_private_addresses_to_tenants() {
    let args = |objects: &[DynamicObject]| {
        let deployment = &only(objects, "Deployment").data;
        let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone();
        serde_json::from_value::<Vec<String>>(args).unwrap()
    };
    let hardened = args(&render_with(&["values-hardened"]).await);
    assert!(hardened.contains(&"--deny-private-for-key-providers".to_owned()), "{hardened:?}");
    let everything = args(&render_with(&["everything"]).await);
    for flag in [
        "--allow-cidr=10.0.0.0/8,fd00::/8,ClusterKeyProviders=127.0.0.0/8",
        "--allow-https-cidr=namespace/billing=192.168.0.0/16",
        "--deny-cidr=10.0.0.0/28",
        "--deny-private-for-key-providers",
        "--disclose-cidr=KeyProviders=10.1.0.0/16",
        "--verify-cidr=namespace/billing=10.2.0.0/16",
        "--ibm-cloud-host=iam.example.com:8443",
    ] {
        assert!(everything.iter().any(|arg| arg == flag), "`{flag}` is not in {everything:?}");
    }
}

/// With single namespaces the chart creates Roles, and requests no right in the whole cluster.
#[tokio::test]
async fn with_namespaces_there_is_no_right_beyond_them() {
    let objects = render_with(&["namespaces"]).await;
    let bound: Vec<_> = objects.iter().map(title).filter(|title| title.contains("RoleBinding/")).collect();
    assert!(bound.iter().all(|title| title.starts_with("RoleBinding/")), "{bound:?}");
    let places: Vec<_> = objects
        .iter()
        .filter(|object| title(object) == "Role/servicekey-operator")
        .map(|object| object.metadata.namespace.clone().unwrap())
        .collect();
    assert_eq!(places, ["servicekeys-system", "training", "staging"]);
    let args = &only(&objects, "Deployment").data["spec"]["template"]["spec"]["containers"][0]["args"];
    assert!(args.as_array().unwrap().contains(&json!("--namespaces=$(POD_NAMESPACE),training,staging")));
}

/// This also covers the roles for users.
#[tokio::test]
async fn no_role_has_a_wildcard() {
    for files in [&[][..], &["namespaces"], &["everything"]] {
        for object in render_with(files).await {
            let rules = object.data.get("rules").map(ToString::to_string).unwrap_or_default();
            assert!(!rules.contains('*'), "{} has a wildcard", title(&object));
        }
    }
}

#[tokio::test]
async fn the_pods_port_is_closed_unless_somebody_is_let_in() {
    let policy = render(&[]).await;
    let policy = &only(&policy, "NetworkPolicy").data["spec"];
    assert_eq!((&policy["ingress"], &policy["policyTypes"]), (&json!([]), &json!(["Ingress"])));
    let policy = render_with(&["everything"]).await;
    let policy = &only(&policy, "NetworkPolicy").data["spec"];
    assert_eq!(policy["ingress"][0]["ports"], json!([{"port": "http", "protocol": "TCP"}]));
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
}

/// The token for trusted profiles is mounted at the path that the operator reads.
#[tokio::test]
async fn the_token_for_ibm_cloud_is_mounted_where_it_is_read() {
    let objects = render_with(&["everything"]).await;
    let pod = &only(&objects, "Deployment").data["spec"]["template"]["spec"];
    let named = |list: &serde_json::Value| {
        let items = list.as_array().unwrap().iter();
        items.clone().find(|item| item["name"] == "trusted-profile-token").unwrap().clone()
    };
    let token = &named(&pod["volumes"])["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token, &json!({"path": "sa-token", "audience": "iam", "expirationSeconds": 900}));
    let container = &pod["containers"][0];
    let folder = named(&container["volumeMounts"])["mountPath"].clone();
    let flag = format!("--service-account-token={}/sa-token", folder.as_str().unwrap());
    assert!(container["args"].as_array().unwrap().contains(&json!(flag)));
}
