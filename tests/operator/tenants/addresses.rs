//! Attacks that use an address to learn about a server, or to reach it.

use std::{
    any::Any,
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use servicekey_operator::{
    api::{KeyProvider, Reason, ServiceKey},
    testing::{AddressPolicy, AddressRules, ApiServer, Names, Network},
};
use testkit::broker::FakeBroker;

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenant, Tenants, broker_login, broker_spec, instance_of_broker, key_manifest},
    spy::{ClosedPort, Spy},
};
use crate::support::conditions::Reports;

pub const ABUSES: &[Abuse] = &[
    abuse!(
        internal_services_can_not_be_told_from_closed_ports,
        Actor::KeyWriter,
        "scans the private network with KeyProviders and ServiceKeys: ports that are closed, and ports that answer \
         with a page, a refusal, a redirect, a rate limit, or without TLS",
        "all conditions have the same reason and message; no event mentions an answer",
    ),
    abuse!(
        a_token_server_can_not_be_told_from_a_closed_port,
        Actor::Editor,
        "names an internal service as the token server of its own broker",
        "the condition is that of a closed port, and shows nothing of the answer",
    ),
    abuse!(
        other_backends_tell_as_little,
        Actor::Editor,
        "names an internal service as a Cloud Foundry, and as IBM Cloud",
        "the conditions are those of a closed port, and show nothing of the answers",
    ),
    abuse!(
        a_proof_ends_with_the_url,
        Actor::Editor,
        "has its own broker prove itself, and then changes the URL to that of an internal service",
        "the condition shows nothing of the answer",
    ),
    abuse!(
        a_name_that_moves_on_reaches_nothing,
        Actor::RemoteSide,
        "has its broker prove itself, and then lets its name resolve to an internal service (DNS rebinding)",
        "the service gets no bind, only a request without a login for a catalog; its answer is not shown",
    ),
    abuse!(
        the_api_server_is_no_remote_side,
        Actor::Editor,
        "names the API server in a KeyProvider, by its address and by a name of its own that resolves to it",
        "the address is refused, and no connection is made for the name",
    ),
    abuse!(
        metadata_services_are_refused_however_they_are_written,
        Actor::KeyWriter,
        "names the cloud's metadata service as an IPv6 address that maps to it",
        "the address is refused, and no connection is made",
    ),
    abuse!(
        a_hardened_operator_refuses_private_networks,
        Actor::KeyWriter,
        "names a private address, and a name that resolves to one, where `values-hardened.yaml` is in force",
        "both are refused, with the chart value that would admit them; nothing is sent",
    ),
    abuse!(
        http_that_is_admitted_for_one_namespace_is_refused_in_another,
        Actor::Editor,
        "names the broker of another namespace, to which plain http is admitted for that namespace alone",
        "the provider reports that plain http is refused; the other namespace is served",
    ),
    abuse!(
        denied_networks_are_refused,
        Actor::Editor,
        "names an address in a network of `--deny-cidr`, and a name that resolves to one",
        "the address is refused, and no connection is made for the name",
    ),
];

/// The answer of an internal service, which a tenant may not read.
const INTERNAL: &str = "internal-secret";

/// A URL to connect to, and the server or socket behind it.
struct Place {
    url: String,
    _server: Box<dyn Any + Send>,
}

/// URLs that behave differently, so that a scan tries to distinguish them.
async fn places() -> Vec<Place> {
    let closed = ClosedPort::new();
    let mut places = vec![Place { url: closed.url(), _server: Box::new(closed) }];
    for head in [
        "200 OK\r\ncontent-type: text/html",
        "401 Unauthorized\r\nwww-authenticate: Basic realm=internal-secret",
        "302 Found\r\nlocation: https://internal-secret.example",
        "503 Busy\r\nretry-after: 60",
        "200 OK\r\ncontent-type: application/json",
    ] {
        let body = if head.ends_with("json") {
            format!("{{\"services\": {{\"{INTERNAL}\": []}}}}")
        } else {
            INTERNAL.to_owned()
        };
        let spy = Spy::answering(head, &body).await;
        places.push(Place { url: spy.url(), _server: Box::new(spy) });
    }
    let plain = Spy::answering("200 OK", INTERNAL).await;
    places.push(Place { url: plain.url().replace("http:", "https:"), _server: Box::new(plain) });
    places
}

/// The reason and message of `Ready`, with a placeholder for the URL.
fn said(object: &impl Reports, place: &str) -> (String, String) {
    let ready = object.conditions().iter().find(|condition| condition.type_ == "Ready").unwrap();
    (ready.reason.clone(), ready.message.replace(place, "<place>"))
}

/// The reason and message of a KeyProvider with this spec, as its tenant reads them.
async fn said_of_provider(
    tenant: &Tenant,
    name: &str,
    spec: Value,
    login: Option<(&str, Value)>,
    place: &str,
) -> (String, String) {
    tenant.add_provider(name, spec, login).await;
    said(&tenant.wait_provider(name, false, Reason::RemoteUnreachable).await, place)
}

fn assert_all_alike(all: &[(String, String)]) {
    assert!(all.iter().all(|said| said == &all[0]), "{all:#?}");
    assert!(all[0].1.contains("no valid answer from `<place>`"), "{}", all[0].1);
}

/// Fails if an event in the tenant's namespace contains this part of an answer.
async fn assert_no_event_tells(tenants: &Tenants, words: &str) {
    let events: Api<Event> = Api::namespaced(tenants.admin.clone(), &tenants.attacker.namespace);
    for event in events.list(&ListParams::default()).await.unwrap() {
        let event = serde_json::to_string(&event).unwrap();
        assert!(!event.contains(words), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_services_can_not_be_told_from_closed_ports() {
    let tenants = Tenants::meet_guarded(Actor::KeyWriter).await;
    let attacker = &tenants.attacker;
    let (mut providers, mut keys) = (Vec::new(), Vec::new());
    let places = places().await;
    for (number, Place { url, .. }) in places.iter().enumerate() {
        let name = format!("scan-{number}");
        let spec = json!({"openServiceBroker": {"url": url}, "limits": {"timeout": "2s"}});
        providers.push(said_of_provider(attacker, &name, spec, None, url).await);
        let key = key_manifest(&name, json!({"name": name}), instance_of_broker(), json!({}));
        attacker.create::<ServiceKey>(key).await;
        keys.push(said(&attacker.wait_says(&name, "no valid answer").await, url));
    }
    assert_all_alike(&providers);
    assert_all_alike(&keys);
    for words in [INTERNAL, "answers 4", "answers 5", "redirects", "connection refused", "TLS handshake"] {
        assert_no_event_tells(&tenants, words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_can_not_be_told_from_a_closed_port() {
    let tenants = Tenants::meet_guarded(Actor::Editor).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    let mut all = Vec::new();
    for (number, Place { url, .. }) in places().await.iter().enumerate() {
        let (name, login) = (format!("scan-{number}"), format!("login-{number}"));
        let client = json!({"secretRef": {"name": login}, "tokenUrl": format!("{url}/token")});
        let spec = json!({
            "openServiceBroker": {"url": broker.url(), "auth": {"clientCredentials": client}},
            "limits": {"timeout": "2s"},
        });
        let data = json!({"clientId": "any", "clientSecret": "any"});
        all.push(said_of_provider(&tenants.attacker, &name, spec, Some((&login, data)), url).await);
    }
    assert_all_alike(&all);
    assert_no_event_tells(&tenants, INTERNAL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_backends_tell_as_little() {
    let tenants = Tenants::meet_guarded(Actor::Editor).await;
    let (mut of_foundries, mut of_clouds) = (Vec::new(), Vec::new());
    for (number, Place { url, .. }) in places().await.iter().enumerate() {
        let limits = json!({"timeout": "2s"});
        let login = format!("login-{number}");
        let auth = json!({"password": {"secretRef": {"name": login}}});
        let spec = json!({"cloudFoundry": {"apiUrl": url, "auth": auth}, "limits": limits});
        let data = json!({"username": "any", "password": "any", "apikey": "any"});
        let name = format!("cf-{number}");
        of_foundries.push(said_of_provider(&tenants.attacker, &name, spec, Some((&login, data)), url).await);

        let auth = json!({"apiKey": {"secretRef": {"name": login}}});
        let spec = json!({
            "ibmCloud": {"auth": auth, "iamUrl": url, "resourceControllerUrl": url},
            "limits": limits,
        });
        let name = format!("ibm-{number}");
        of_clouds.push(said_of_provider(&tenants.attacker, &name, spec, None, url).await);
    }
    assert_all_alike(&of_foundries);
    assert_all_alike(&of_clouds);
    assert_no_event_tells(&tenants, INTERNAL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_ends_with_the_url() {
    let tenants = Tenants::meet_guarded(Actor::Editor).await;
    let attacker = &tenants.attacker;
    let broker = FakeBroker::builder().start().await.unwrap();
    attacker.add_provider("own", broker_spec(&broker), Some(("broker-login", broker_login()))).await;
    attacker.wait_provider("own", true, Reason::Available).await;

    let spy = Spy::answering("401 Unauthorized", INTERNAL).await;
    let url = json!({"spec": {"openServiceBroker": {"url": spy.url()}}});
    attacker.patch::<KeyProvider>("own", url).await;
    let provider = attacker.wait_provider("own", false, Reason::RemoteUnreachable).await;
    provider.says(&format!("no valid answer from `{}`", spy.url()));
    assert!(!spy.sent().is_empty(), "the operator sent the service a request");
    assert_no_event_tells(&tenants, INTERNAL).await;
}

/// A tenant's name server. It resolves every name to 127.0.0.1, and later to 127.0.0.2.
#[derive(Debug, Default)]
struct TenantsNames {
    moved_on: AtomicBool,
}

impl Names for TenantsNames {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let last = if self.moved_on.load(Ordering::SeqCst) { 2 } else { 1 };
        Ok(vec![IpAddr::from([127, 0, 0, last])])
    }
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const CATALOG: &str = r#"{"services": [{"id": "postgresql-id", "name": "postgresql", "description": "-",
    "bindable": true, "plans": [{"id": "small-id", "name": "small", "description": "-"}]}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_on_reaches_nothing() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    let names = Arc::<TenantsNames>::default();
    let resolver = Arc::clone(&names);
    let rules = AddressRules { allow: networks(&["127.0.0.0/8"]), ..AddressRules::default() };
    tenants.start_operator(|options| options.addresses = AddressPolicy::from(rules).with_names(resolver));
    let own = Spy::answering("200 OK", CATALOG).await;
    let internal = Spy::at(&format!("127.0.0.2:{}", own.port()), "200 OK", INTERNAL).await;
    let attacker = &tenants.attacker;
    let url = format!("http://rebinding.example:{}", own.port());
    let spec = json!({"openServiceBroker": {"url": url}, "limits": {"timeout": "5s"}});
    attacker.add_provider("own", spec, None).await;
    attacker.wait_provider("own", true, Reason::Available).await;

    names.moved_on.store(true, Ordering::SeqCst);
    let key = key_manifest("key", json!({"name": "own"}), instance_of_broker(), json!({}));
    attacker.create::<ServiceKey>(key).await;
    attacker.wait_says("key", &format!("no valid answer from `{url}`")).await;
    let sent = internal.sent();
    assert!(!sent.is_empty(), "the name does not resolve to the service");
    assert!(sent.iter().all(|request| request.starts_with("GET /v2/catalog ")), "{sent:#?}");
    assert_no_event_tells(&tenants, INTERNAL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_is_no_remote_side() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    let url = tenants.plane().url();
    // The spy shows whether the operator connects, which the API server itself does not.
    let spy = Spy::answering("200 OK", CATALOG).await;
    let api_server = ApiServer::behind([url.parse().unwrap(), spy.url().parse().unwrap()]).await;
    let rules = AddressRules { allow: networks(&["127.0.0.0/8"]), api_server, ..AddressRules::default() };
    let names = Arc::<TenantsNames>::default();
    tenants.start_operator(|options| options.addresses = AddressPolicy::from(rules).with_names(names));
    let attacker = &tenants.attacker;
    attacker.add_provider("by-address", json!({"openServiceBroker": {"url": url}}), None).await;
    attacker.wait_provider("by-address", false, Reason::InvalidSpec).await.says("is the API server");

    let named = format!("http://rebinding.example:{}", spy.port());
    attacker.add_provider("by-name", json!({"openServiceBroker": {"url": named}}), None).await;
    attacker.wait_provider("by-name", false, Reason::RemoteUnreachable).await.says("no valid answer");
    assert_eq!(spy.sent(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_services_are_refused_however_they_are_written() {
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    for (name, host) in [
        ("mapped", "::ffff:169.254.169.254"),
        ("nat64", "64:ff9b::a9fe:a9fe"),
        ("nat64-of-the-network", "64:ff9b:1:a9fe:a9:fe00::"),
        ("six-to-four", "2002:a9fe:a9fe::1"),
    ] {
        let spec = json!({"openServiceBroker": {"url": format!("https://[{host}]")}});
        tenants.attacker.add_provider(name, spec, None).await;
        let provider = tenants.attacker.wait_provider(name, false, Reason::InvalidSpec).await;
        provider.says("is a cloud's metadata address, which is refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hardened_operator_refuses_private_networks() {
    let mut tenants = Tenants::meet_alone(Actor::KeyWriter).await;
    let rules = AddressRules {
        allow: networks(&["ClusterKeyProviders=127.0.0.0/8"]),
        deny_private_for_key_providers: true,
        ..AddressRules::default()
    };
    #[derive(Debug)]
    struct Private;
    impl Names for Private {
        fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(vec![IpAddr::from([10, 1, 2, 3])])
        }
    }
    let policy = AddressPolicy::from(rules).with_names(Arc::new(Private));
    tenants.start_operator(|options| options.addresses = policy);
    let attacker = &tenants.attacker;
    attacker.add_provider("literal", json!({"openServiceBroker": {"url": "https://10.1.2.3"}}), None).await;
    let provider = attacker.wait_provider("literal", false, Reason::InvalidSpec).await;
    provider.says("`10.1.2.3` is a private address, which KeyProviders may not use");
    provider.says("the chart value `operator.allowHttpsCidrs`");
    let named = json!({"openServiceBroker": {"url": "https://broker.billing.svc"}});
    attacker.add_provider("named", named, None).await;
    let provider = attacker.wait_provider("named", false, Reason::RemoteUnreachable).await;
    provider.says("KeyProviders may not use private addresses here");
    provider.says("the chart value `operator.allowHttpsCidrs`");

    // The rules for private addresses do not apply to the administrator's own providers.
    let broker = FakeBroker::builder().start().await.unwrap();
    tenants.add_cluster_broker(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_that_is_admitted_for_one_namespace_is_refused_in_another() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    let allow = networks(&[&format!("namespace/{}=127.0.0.0/8", tenants.victim.namespace)]);
    let rules = AddressRules { allow, ..AddressRules::default() };
    tenants.start_operator(|options| options.addresses = rules.into());
    let broker = FakeBroker::builder().start().await.unwrap();
    let login = || Some(("broker-login", broker_login()));
    tenants.victim.add_provider("broker", broker_spec(&broker), login()).await;
    tenants.victim.wait_provider("broker", true, Reason::Available).await;
    let calls = broker.calls().len();

    tenants.attacker.add_provider("broker", broker_spec(&broker), login()).await;
    let provider = tenants.attacker.wait_provider("broker", false, Reason::InvalidSpec).await;
    provider.says("plain http to `127.0.0.1` is refused");
    assert_eq!(broker.calls().len(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_networks_are_refused() {
    let mut tenants = Tenants::meet_alone(Actor::Editor).await;
    let rules = AddressRules {
        allow: networks(&["127.0.0.0/8"]),
        deny: networks(&["KeyProviders=127.0.0.1/32"]),
        ..AddressRules::default()
    };
    let names = Arc::<TenantsNames>::default();
    tenants.start_operator(|options| options.addresses = AddressPolicy::from(rules).with_names(names));
    let spy = Spy::answering("200 OK", CATALOG).await;
    let attacker = &tenants.attacker;
    attacker.add_provider("literal", json!({"openServiceBroker": {"url": spy.url()}}), None).await;
    let provider = attacker.wait_provider("literal", false, Reason::InvalidSpec).await;
    provider.says("`127.0.0.1` is in a network that the operator refuses (`--deny-cidr`");
    let named = json!({"openServiceBroker": {"url": format!("http://rebinding.example:{}", spy.port())}});
    attacker.add_provider("named", named, None).await;
    attacker.wait_provider("named", false, Reason::RemoteUnreachable).await.says("no valid answer");
    assert_eq!(spy.sent(), [] as [String; 0]);

    // The administrator may still use this address, because the flag only applies to KeyProviders.
    let broker = FakeBroker::builder().start().await.unwrap();
    tenants.add_cluster_broker(&broker).await;
}
