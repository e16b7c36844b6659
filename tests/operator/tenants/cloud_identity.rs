//! The operator sends its own cloud identity only to the cloud, and a provider's login only to the servers that its
//! author named.

use std::{fs, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{ClusterKeyProvider, KeyProvider, Reason, custom_resource_definitions},
    testing::{AddressRules, Network},
};
use tempfile::NamedTempFile;
use testkit::ibm_cloud::{FakeIbmCloud, Grant};

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenants, instance_by_name},
    spy::Spy,
};
use crate::support::{
    conditions::{Reports, wait_for},
    foundry, ibm,
    stage::wait,
};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        a_key_provider_names_no_trusted_profile,
        Actor::Editor,
        "creates a KeyProvider with `trustedProfile` and a server of its own as `iamUrl`",
        "the API server refuses it, also as a change of a KeyProvider with another login",
    ),
    abuse!(
        a_key_provider_from_before_gets_no_token,
        Actor::Editor,
        "has such a KeyProvider that is older than that rule, and names another server in it",
        "the condition has the reason `InvalidSpec`, the server gets no request, and the KeyProvider can be deleted",
    ),
    abuse!(
        only_named_hosts_get_the_token,
        Actor::RemoteSide,
        "pretends to be IAM, or the Resource Controller, in a ClusterKeyProvider with a trusted profile",
        "the condition has the reason `InvalidSpec`; neither the service account's token nor that of the profile is \
         sent there",
    ),
    abuse!(
        a_redirect_gets_no_token,
        Actor::RemoteSide,
        "redirects the request for a token to another server, with status 307",
        "the other server gets no request",
    ),
    abuse!(
        discovery_leads_no_login_elsewhere,
        Actor::RemoteSide,
        "names another host in the links `uaa`, `login` and `cloud_controller_v3` of a ClusterKeyProvider's Cloud \
         Foundry",
        "the links are not followed, and the other host gets no request",
    ),
];

/// The service account token in the operator's pod.
const TOKEN: &str = "service-account-token";

fn with_profile(iam: &str, resource_controller: &str) -> Value {
    json!({
        "ibmCloud": {
            "auth": {"trustedProfile": {"name": "operator"}},
            "iamUrl": iam,
            "resourceControllerUrl": resource_controller,
        },
        "limits": {"timeout": "5s", "requestsPerSecond": 1000},
    })
}

/// A cluster whose operator has a token, and uses trusted profiles at these hosts.
async fn with_token(hosts: &[&str]) -> (Tenants, NamedTempFile) {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    let token = NamedTempFile::new().unwrap();
    fs::write(token.path(), format!("{TOKEN}\n")).unwrap();
    let loopback: Network = "127.0.0.0/8".parse().unwrap();
    let hosts = hosts.iter().map(|host| host.trim_start_matches("http://").parse().unwrap());
    let rules =
        AddressRules { allow: vec![loopback], ibm_cloud_hosts: hosts.collect(), ..AddressRules::default() };
    tenants.start_operator(|options| {
        options.service_account_token = token.path().to_owned();
        options.addresses = rules.into();
    });
    (tenants, token)
}

async fn wait_cluster_provider(tenants: &Tenants, name: &str, reason: Reason) -> ClusterKeyProvider {
    wait_for(Api::<ClusterKeyProvider>::all(tenants.admin.clone()), name, false, reason).await
}

fn no_login() -> (&'static str, Value) {
    ("ibm-login", json!({"apikey": "unused"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_provider_names_no_trusted_profile() {
    let tenants = Tenants::meet(Actor::Editor).await;
    let spy = Spy::answering("200 OK", "{}").await;
    let provider = |spec: Value| {
        json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "KeyProvider",
            "metadata": {"name": "cloud"},
            "spec": spec,
        })
    };
    let with_profile = with_profile(&spy.url(), &spy.url());
    let refusal =
        tenants.attacker.try_create::<KeyProvider>(provider(with_profile.clone())).await.unwrap_err();
    assert!(refusal.to_string().contains("a KeyProvider can't use `trustedProfile`"), "{refusal}");

    let by_key = json!({"ibmCloud": {"auth": ibm::by_api_key(), "iamUrl": spy.url()}});
    tenants.attacker.create::<KeyProvider>(provider(by_key)).await;
    let patch =
        json!({"spec": {"ibmCloud": {"auth": {"apiKey": null, "trustedProfile": {"name": "operator"}}}}});
    let patched = tenants
        .attacker
        .api::<KeyProvider>()
        .patch("cloud", &PatchParams::default(), &Patch::Merge(patch))
        .await;
    let refusal = patched.unwrap_err();
    assert!(refusal.to_string().contains("a KeyProvider can't use `trustedProfile`"), "{refusal}");
}

/// The definitions of a version without the rule against trusted profiles in KeyProviders.
fn definitions_from_before() -> Vec<CustomResourceDefinition> {
    let mut definitions = serde_json::to_value(custom_resource_definitions()).unwrap();
    assert!(remove_rules(&mut definitions, "can't use `trustedProfile`") > 0, "no rule has this message");
    serde_json::from_value(definitions).unwrap()
}

/// Removes all rules with this text in their message, and returns their number.
fn remove_rules(schema: &mut Value, words: &str) -> usize {
    match schema {
        Value::Object(fields) => {
            let mut removed = 0;
            if let Some(Value::Array(rules)) = fields.get_mut("x-kubernetes-validations") {
                let before = rules.len();
                rules.retain(|rule| !rule["message"].as_str().is_some_and(|message| message.contains(words)));
                removed = before - rules.len();
            }
            removed + fields.values_mut().map(|field| remove_rules(field, words)).sum::<usize>()
        }
        Value::Array(items) => items.iter_mut().map(|item| remove_rules(item, words)).sum(),
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_provider_from_before_gets_no_token() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    tenants.plane().install_crds(&definitions_from_before()).await.unwrap();
    let spy = Spy::answering("200 OK", r#"{"access_token": "any", "expires_in": 3600}"#).await;
    let spec = with_profile(&spy.url(), &spy.url());
    tenants.attacker.add_provider("cloud", spec, None).await;
    tenants.plane().install_crds(&custom_resource_definitions()).await.unwrap();
    let token = NamedTempFile::new().unwrap();
    fs::write(token.path(), TOKEN).unwrap();
    // The administrator has even allowed this server for ClusterKeyProviders.
    let loopback: Network = "127.0.0.0/8".parse().unwrap();
    let host = spy.url().trim_start_matches("http://").parse().unwrap();
    let rules =
        AddressRules { allow: vec![loopback], ibm_cloud_hosts: vec![host], ..AddressRules::default() };
    tenants.start_operator(|options| {
        options.service_account_token = token.path().to_owned();
        options.addresses = rules.into();
    });
    let provider = tenants.attacker.wait_provider("cloud", false, Reason::InvalidSpec).await;
    provider.says("is the operator's own identity, which a KeyProvider may not use");
    assert!(provider.is_stalled());

    let url = json!({"spec": {"ibmCloud": {"iamUrl": format!("{}/other", spy.url())}}});
    let changed = tenants.attacker.patch::<KeyProvider>("cloud", url).await.metadata.generation;
    let providers = tenants.attacker.api::<KeyProvider>();
    wait(providers.clone(), "cloud", "observed", |provider| {
        let status = provider.and_then(|provider| provider.status.as_ref());
        status.is_some_and(|status| status.observed_generation == changed)
    })
    .await;
    assert_eq!(spy.sent(), [] as [String; 0]);
    providers.delete("cloud", &DeleteParams::default()).await.unwrap();
    wait(providers, "cloud", "gone", |provider| provider.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_named_hosts_get_the_token() {
    let ibm = FakeIbmCloud::builder().start().await.unwrap();
    let spy = Spy::answering("200 OK", r#"{"access_token": "any", "expires_in": 3600}"#).await;
    let named = ibm.iam_url();
    let (tenants, _token) = with_token(&[&named]).await;
    let elsewhere = with_profile(&spy.url(), &ibm.url());
    let provider = tenants.add_unready_cluster_provider(elsewhere, no_login()).await;
    wait_cluster_provider(&tenants, &provider, Reason::InvalidSpec)
        .await
        .says("`iamUrl`: `127.0.0.1` is not a host of IBM Cloud");

    let controller = with_profile(&named, &spy.url());
    tenants.change_cluster_provider(&provider, controller).await;
    let told = wait_cluster_provider(&tenants, &provider, Reason::InvalidSpec).await;
    told.says("`resourceControllerUrl`: `127.0.0.1` is not a host of IBM Cloud");
    told.says("`--ibm-cloud-host` (chart value `ibmCloud.trustedProfiles.hosts`)");
    assert_eq!(spy.sent(), [] as [String; 0]);
    assert_eq!(ibm.granted(Grant::ComputeResource), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_gets_no_token() {
    let spy = Spy::answering("200 OK", r#"{"access_token": "any", "expires_in": 3600}"#).await;
    let iam =
        Spy::answering(&format!("307 Temporary Redirect\r\nlocation: {}/identity/token", spy.url()), "")
            .await;
    let (tenants, _token) = with_token(&[&iam.url()]).await;
    let spec = with_profile(&iam.url(), &iam.url());
    let provider = tenants.add_unready_cluster_provider(spec, no_login()).await;
    wait_cluster_provider(&tenants, &provider, Reason::UnexpectedAnswer).await.says("which is not followed");
    let asked = iam.sent();
    assert!(
        asked.iter().any(|request| request.contains(TOKEN)),
        "the operator did not send its token to the redirecting server: {asked:#?}"
    );
    assert_eq!(spy.sent(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_leads_no_login_elsewhere() {
    // They listen until the operator has ended, so that no other test gets their ports before.
    let mut foundries = Vec::new();
    let tenants = Tenants::meet(Actor::Outsider).await;
    let spy = Spy::answering("200 OK", r#"{"access_token": "any", "expires_in": 3600}"#).await;
    // The same machine with another host name.
    let elsewhere = format!("http://localhost:{}", spy.port());
    let mut provider: Option<String> = None;
    for (own, links) in [
        (true, json!({"uaa": {"href": elsewhere}})),
        (true, json!({"uaa": null, "login": {"href": elsewhere}})),
        (
            false,
            json!({"cloud_controller_v3": {"href": format!("{elsewhere}/v3")}, "uaa": {"href": elsewhere}}),
        ),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut root = json!({"links": links});
        if own {
            root["links"]["cloud_controller_v3"] = json!({"href": format!("http://{address}/v3")});
        }
        let cf = Spy::on(listener, "200 OK", &root.to_string());
        let spec = json!({
            "cloudFoundry": {"apiUrl": cf.url(), "auth": foundry::by_password(), "organization": "acme", "space": "dev"},
            "limits": {"timeout": "5s"},
        });
        let name = match &provider {
            None => tenants.add_unready_cluster_provider(spec, ("cf-login", foundry::password())).await,
            Some(name) => {
                let url = json!({"cloudFoundry": {"apiUrl": cf.url()}});
                tenants.change_cluster_provider(name, url).await;
                name.clone()
            }
        };
        let told = wait_cluster_provider(&tenants, &name, Reason::InvalidSpec).await;
        told.says(&format!("leads to `{elsewhere}"));
        told.says("is not followed; check `apiUrl`");
        provider = Some(name);
        assert!(!cf.sent().is_empty(), "the operator did not read the links");
        foundries.push(cf);
    }
    assert_eq!(spy.sent(), [] as [String; 0]);
}

/// The counterpart: the operator does send its identity to a permitted cloud.
#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_profile_is_taken_on_with_the_token_of_the_day() {
    let ibm = FakeIbmCloud::builder().token_lifetime(Duration::from_secs(600)).start().await.unwrap();
    let (iam, controller) = (ibm.iam_url(), ibm.url());
    let (tenants, token) = with_token(&[&iam, &controller]).await;
    fs::remove_file(token.path()).unwrap();
    let provider = tenants.add_unready_cluster_provider(with_profile(&iam, &controller), no_login()).await;
    let told = wait_cluster_provider(&tenants, &provider, Reason::Unauthorized).await;
    told.says("project one there (chart value `ibmCloud.trustedProfiles.enabled: true`");

    fs::write(token.path(), format!("{TOKEN}\n")).unwrap();
    tenants.victim.ask_cluster_provider(&provider, "first", instance_by_name(), json!({})).await;
    tenants.victim.wait_ready("first").await;
    assert_eq!(ibm.granted(Grant::ComputeResource), 1);

    fs::write(token.path(), "tomorrows-token").unwrap();
    ibm.change_secret("operator", "tomorrows-token");
    ibm.revoke_tokens();
    tenants.victim.ask_cluster_provider(&provider, "second", instance_by_name(), json!({})).await;
    tenants.victim.wait_ready("second").await;
    assert_eq!(ibm.granted(Grant::ComputeResource), 2);
}
