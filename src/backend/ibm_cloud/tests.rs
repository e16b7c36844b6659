//! Tests of the client of IBM Cloud with small servers that give the answers of the test.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::http::Method;
use futures::FutureExt;
use parking_lot::Mutex;
use rstest::rstest;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::{IbmCloud, IbmCloudConfig, IbmCloudLogin, wire::ResourceInstance};
use crate::{
    backend::{
        AddressPolicy, AddressRules, Author, ErrorClass, HttpConfig, InstanceRef, KeyRequest, KeyRole,
        KnownSecrets, LostClusters, MemoryBudget, Names, Owner, Parameters, Restored, test_server,
    },
    lifecycle::{Identity, Sequence},
};

pub(super) const US: &str = "6f1d3c1a-3f43-4d0c-9d5e-5f3f0c5f8a01";
const INSTANCE: &str = "i-1";
const KEY: &str = "k-1";
const PATIENT: Duration = Duration::from_secs(20);

fn our_name() -> String {
    format!("a-sk-{US}-1")
}

fn instance() -> Value {
    json!({"guid": INSTANCE, "crn": "crn:v1:bluemix:public:logs:eu-de:a/1:i-1::", "state": "active"})
}

fn keys(keys: &[&str]) -> (u16, Value) {
    let keys: Vec<_> = keys.iter().map(|guid| json!({"guid": guid, "name": our_name()})).collect();
    (200, json!({ "resources": keys }))
}

fn not_found() -> (u16, Value) {
    (404, json!({"error_code": "RC-NotFound", "message": "not found"}))
}

fn token() -> (u16, Value) {
    (200, json!({"access_token": "t", "expires_in": 3600}))
}

fn connect(iam: &Url, resource_controller: &Url, http: HttpConfig) -> IbmCloud {
    IbmCloud::new(&IbmCloudConfig {
        iam_url: iam.clone(),
        resource_controller_url: resource_controller.clone(),
        auth: IbmCloudLogin::ApiKey { api_key: "hunter2".into() },
        lost_clusters: LostClusters::default(),
        settling: IbmCloudConfig::SETTLING,
        http,
    })
    .unwrap()
}

/// An account that gives these answers. It issues tokens by itself.
async fn account(answer: impl Fn(&Method, &str) -> (u16, Value) + Clone + Send + Sync + 'static) -> IbmCloud {
    let url = test_server::answering(
        move |method, path| {
            if path == "/identity/token" { token() } else { answer(method, path) }
        },
    )
    .await;
    connect(&url, &url, test_server::http_config(PATIENT))
}

/// The creation may have succeeded, but the id of the key is unknown.
#[tokio::test]
async fn a_key_is_not_there_before_its_id_is_known() {
    let cloud = account(|method, path| match path {
        "/v2/resource_instances/i-1" => (200, instance()),
        _ if method == Method::POST => (500, json!({})),
        _ => keys(&[]),
    })
    .await;
    let request = request(&our_name(), None);
    assert_eq!(cloud.bind(&request).await.unwrap_err().class, ErrorClass::Unsure);
    let error = cloud.exists(&request).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient);
    assert!(error.message.contains("may have been created, and IBM Cloud may not show it"), "{error}");
}

#[rstest]
#[case("")]
#[case(".")]
#[case("..")]
#[tokio::test]
async fn a_key_whose_id_is_no_id_is_malformed(#[case] id: &'static str) {
    let cloud = account(move |_, _| keys(&[id])).await;
    let error = cloud.marked_keys(None).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unexpected);
}

/// A login without its role sees no keys, which does not prove that they are gone.
#[rstest]
#[case::out_of_sight(false)]
#[case::known_and_out_of_sight(true)]
#[tokio::test]
async fn a_key_is_not_released_while_the_login_may_not_see_it(#[case] is_known: bool) {
    let (sees, renamed) = (Arc::new(AtomicBool::new(is_known)), Arc::new(Mutex::new(Vec::new())));
    let cloud = account({
        let (sees, renamed) = (Arc::clone(&sees), Arc::clone(&renamed));
        move |method, path| match path {
            _ if !sees.load(Ordering::Relaxed) && path.starts_with("/v2/resource_keys?") => keys(&[]),
            _ if !sees.load(Ordering::Relaxed) => not_found(),
            "/v2/resource_instances/i-1" => (200, instance()),
            _ if method == Method::PATCH => {
                renamed.lock().push(path.to_owned());
                (200, json!({}))
            }
            _ => keys(&[KEY]),
        }
    })
    .await;
    let request = request(&our_name(), None);
    if is_known {
        cloud.find(&request).await.unwrap();
    }
    sees.store(false, Ordering::Relaxed);
    assert_eq!(cloud.release(&request).await.unwrap_err().class, ErrorClass::Gone);
    assert!(renamed.lock().is_empty());

    sees.store(true, Ordering::Relaxed);
    cloud.release(&request).await.unwrap();
    assert_eq!(*renamed.lock(), ["/v2/resource_keys/k-1"]);
}

/// A request without an answer created a second key of the same name, which the operator does not know yet.
#[tokio::test]
async fn a_key_is_released_together_with_its_twin() {
    let (is_late, renamed) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
    let cloud = account({
        let (is_late, renamed) = (Arc::clone(&is_late), Arc::clone(&renamed));
        move |method, path| match path {
            _ if method == Method::PATCH => {
                renamed.lock().push(path.to_owned());
                (200, json!({}))
            }
            _ if is_late.load(Ordering::Relaxed) => keys(&[KEY]),
            _ => keys(&[KEY, "k-2"]),
        }
    })
    .await;
    let request = request(&our_name(), None);
    cloud.find(&request).await.unwrap();
    is_late.store(false, Ordering::Relaxed);
    cloud.release(&request).await.unwrap();
    renamed.lock().sort();
    assert_eq!(*renamed.lock(), ["/v2/resource_keys/k-1", "/v2/resource_keys/k-2"]);
}

#[tokio::test]
async fn a_key_that_is_gone_is_released() {
    let cloud = account(|_, path| match path {
        "/v2/resource_instances/i-1" => (200, instance()),
        _ => keys(&[]),
    })
    .await;
    cloud.release(&request(&our_name(), None)).await.unwrap();
}

/// Resolves all names to one address, and later to another one.
#[derive(Debug, Default)]
struct MovingCloud(AtomicBool);

impl Names for MovingCloud {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let moved = self.0.load(Ordering::Relaxed);
        Ok(vec![if moved { "127.0.0.2" } else { "127.0.0.1" }.parse().unwrap()])
    }
}

#[tokio::test]
async fn an_iam_at_a_new_private_address_is_asked_for_a_token_first() {
    let tokens = Arc::new(AtomicUsize::new(0));
    let answer = {
        let tokens = Arc::clone(&tokens);
        move |_: &Method, path: &str| match path {
            "/identity/token" => {
                tokens.fetch_add(1, Ordering::Relaxed);
                token()
            }
            _ => (200, json!({"service_roles": [{"display_name": "Reader", "crn": "crn:r"}]})),
        }
    };
    let first = test_server::answering(answer.clone()).await;
    let port = first.port().unwrap();
    let _second = test_server::answering_at(&format!("127.0.0.2:{port}"), answer).await;
    let names = Arc::new(MovingCloud::default());
    let rules = AddressRules { allow: vec!["127.0.0.0/8".parse().unwrap()], ..AddressRules::default() };
    let addresses = AddressPolicy::from(rules)
        .for_author(Author::Tenant { namespace: "training".to_owned() })
        .with_names(Arc::clone(&names) as Arc<dyn Names>);
    let url: Url = format!("http://iam.example:{port}").parse().unwrap();
    let cloud = connect(&url, &url, HttpConfig { addresses, ..test_server::http_config(PATIENT) });
    let of_service = |service: &str| -> ResourceInstance {
        let crn = format!("crn:v1:bluemix:public:{service}:eu-de:a/1:i-1::");
        serde_json::from_value(json!({"guid": INSTANCE, "crn": crn})).unwrap()
    };
    assert_eq!(
        cloud.roles.role(cloud.api(), "Reader", "ibmCloud.role", &of_service("logs")).await.unwrap(),
        "crn:r"
    );
    names.0.store(true, Ordering::Relaxed);
    assert_eq!(
        cloud.roles.role(cloud.api(), "Reader", "ibmCloud.role", &of_service("metrics")).await.unwrap(),
        "crn:r"
    );
    assert_eq!(tokens.load(Ordering::Relaxed), 2, "the new address has proved itself by a token");
}

#[tokio::test]
async fn of_many_roles_ten_are_named() {
    let role =
        |number: usize| json!({"display_name": format!("{number}{}", "n".repeat(500)), "crn": "crn:r"});
    let roles: Vec<_> = (0..100).map(role).collect();
    let cloud = account(move |_, _| (200, json!({ "service_roles": roles }))).await;
    let instance = serde_json::from_value(instance()).unwrap();
    let error = cloud.roles.role(cloud.api(), "Reader", "ibmCloud.role", &instance).await.unwrap_err();
    assert!(
        error.message.contains("as `ibmCloud.role`: `NONE`, `0nnn") && error.message.ends_with("…`, …"),
        "{error}"
    );
    assert!(error.message.len() < 2000, "{error}");
}

/// A restored ServiceKey may have a key from a lost cluster. The name of the key contains the cluster.
#[tokio::test]
async fn a_key_of_a_lost_cluster_is_found_by_its_name_there() {
    let named = |cluster: &str| format!("creds-sk{cluster}-{US}-1");
    let (lost, other) = (named("0a0a0a0a"), named("0b0b0b0b"));
    let shown = [lost.clone(), other].map(|name| json!({"guid": name, "name": name, "state": "active"}));
    let mut cloud = account(move |_, path| {
        let shown = shown.iter().filter(|key| path.contains(key["name"].as_str().unwrap()));
        (200, json!({"resources": shown.collect::<Vec<_>>()}))
    })
    .await;
    cloud.lost_clusters = LostClusters::new(vec!["0a0a0a0a-1111-4000-8000-000000000000".to_owned()]);
    let mut request = request(&named("0c0c0c0c"), Some("0c0c0c0c-1111-4000-8000-000000000000"));
    assert_eq!(cloud.find(&request).await.unwrap().len(), 0, "it searches only for its own name");
    request.restored = Some(Restored { login_is_own: true });
    let found = cloud.find(&request).await.unwrap();
    assert_eq!(found.iter().map(|key| &key.guid).collect::<Vec<_>>(), [&lost]);
}

pub(super) fn request(name: &str, cluster_id: Option<&str>) -> KeyRequest {
    let uid = Uuid::parse_str(US).unwrap();
    KeyRequest {
        identity: Identity { owner: uid, sequence: Sequence::FIRST },
        restored: None,
        owner: Owner {
            namespace: "training".to_owned(),
            name: "creds".to_owned(),
            uid,
            cluster_id: cluster_id.map(str::to_owned),
        },
        instance: InstanceRef { id: Some(INSTANCE.to_owned()), ..InstanceRef::default() },
        parameters: Parameters::default(),
        predecessor: None,
        name: name.to_owned(),
        former_name: None,
        recorded_id: None,
        plan_ids: None,
        inputs: String::new(),
        cleans_up: false,
        adoption: None,
        role: KeyRole::None,
        place: None,
        access: None,
        age: None,
        answers: MemoryBudget::for_answers().share("the provider"),
        known: KnownSecrets::new(|| async { None }.boxed()),
    }
}
