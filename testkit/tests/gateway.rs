//! The gateway forwards everything unchanged, and delays exactly the requests that a test selects.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use testkit::{
    Moment,
    control_plane::{ControlPlane, User},
    gateway::{Gateway, Method, Requests},
};
use tokio::task::JoinHandle;

/// A gateway for a separate user, and the objects that a client sees through it.
struct Through {
    plane: &'static ControlPlane,
    user: User,
    namespace: String,
    gateway: Gateway,
    objects: Api<ConfigMap>,
}

async fn through() -> Through {
    let plane = ControlPlane::shared().await.unwrap();
    let namespace = plane.namespace("gateway").await.unwrap();
    let user = plane.new_user().unwrap();
    plane.grant_cluster_admin(&user).await.unwrap();
    let gateway = Gateway::start(plane.client_as(&user)).await.unwrap();
    let kubeconfig = Kubeconfig::read_from(gateway.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let objects = Api::namespaced(Client::try_from(config).unwrap(), &namespace);
    Through { plane, user, namespace, gateway, objects }
}

fn creations() -> Requests {
    Requests::to(Method::POST, "configmaps")
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    }
}

impl Through {
    fn create(&self, name: &'static str) -> JoinHandle<kube::Result<ConfigMap>> {
        let objects = self.objects.clone();
        tokio::spawn(async move { objects.create(&PostParams::default(), &config_map(name)).await })
    }

    /// Whether the object exists, without a request through the gateway.
    async fn exists(&self, name: &str) -> bool {
        let objects: Api<ConfigMap> = Api::namespaced(self.plane.admin(), &self.namespace);
        objects.get_opt(name).await.unwrap().is_some()
    }

    /// The verbs of the requests that reached the API server through the gateway.
    fn verbs(&self) -> Vec<String> {
        let requests = self.plane.audit().requests(&self.user).unwrap();
        requests.iter().map(|request| request.verb.clone()).collect()
    }
}

#[tokio::test]
async fn requests_and_refusals_pass_and_watches_stream() {
    let it = through().await;
    let mut seen = watcher(it.objects.clone(), watcher::Config::default()).applied_objects().boxed();
    for name in ["first", "second"] {
        it.create(name).await.unwrap().unwrap();
        while seen.next().await.unwrap().unwrap().name_any() != name {}
    }
    let again = it.create("first").await.unwrap();
    assert!(matches!(&again, Err(kube::Error::Api(status)) if status.is_already_exists()), "{again:?}");
    assert_eq!(it.verbs().iter().filter(|verb| *verb == "create").count(), 3);
}

#[tokio::test]
async fn a_gate_before_the_effect_keeps_the_request_from_the_api_server() {
    let it = through().await;
    let gate = it.gateway.gate(creations(), Moment::BeforeEffect);
    let creation = it.create("held");
    gate.wait_for_arrival().await.unwrap();
    assert!(!it.exists("held").await);
    assert_eq!(it.objects.get_opt("held").await.unwrap(), None, "other requests pass");
    gate.release();
    creation.await.unwrap().unwrap();
    it.create("later").await.unwrap().unwrap();
}

#[tokio::test]
async fn a_gate_after_the_effect_keeps_the_answer_from_the_client() {
    let it = through().await;
    let gate = it.gateway.gate(creations(), Moment::AfterEffect);
    let creation = it.create("held");
    gate.wait_for_arrival().await.unwrap();
    assert!(it.exists("held").await);
    assert!(!creation.is_finished());
    gate.release();
    creation.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_cut_goes_no_further() {
    let it = through().await;
    for (name, moment, happened) in
        [("before", Moment::BeforeEffect, false), ("after", Moment::AfterEffect, true)]
    {
        let gate = it.gateway.gate(creations(), moment);
        let creation = it.create(name);
        gate.wait_for_arrival().await.unwrap();
        gate.cut();
        let answer = creation.await.unwrap();
        assert!(!matches!(answer, Ok(_) | Err(kube::Error::Api(_))), "{answer:?}");
        assert_eq!(it.exists(name).await, happened, "{name}");
    }
}

#[tokio::test]
async fn the_first_requests_pass_and_the_next_is_held() {
    let it = through().await;
    let gate = it.gateway.gate(Requests::any().after(2), Moment::BeforeEffect);
    for name in ["first", "second"] {
        it.create(name).await.unwrap().unwrap();
    }
    let third = it.create("third");
    gate.wait_for_arrival().await.unwrap();
    assert_eq!(gate.arrivals(), 1);
    assert!(!it.exists("third").await);
    gate.release();
    third.await.unwrap().unwrap();
}

/// A killed client closes its socket and does nothing else, unlike one that cancels a request.
#[tokio::test]
async fn a_held_request_whose_client_is_gone_never_reaches_the_api_server() {
    let it = through().await;
    // With an open connection to the API server, the gateway is most likely to forward too much.
    it.objects.get_opt("orphan").await.unwrap();
    let gate = it.gateway.gate(creations(), Moment::BeforeEffect);
    let client = send_creation(it.gateway.address(), &it.namespace, "orphan");
    gate.wait_for_arrival().await.unwrap();
    drop(client);
    gate.release();
    // The test can only wait to see that nothing happens.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!it.exists("orphan").await);
    assert_eq!(it.verbs(), ["get"]);
}

/// The same with a live client: otherwise the test above would prove nothing.
#[tokio::test]
async fn a_held_request_whose_client_waits_reaches_the_api_server() {
    let it = through().await;
    let gate = it.gateway.gate(creations(), Moment::BeforeEffect);
    let answered = it.gateway.gate(creations(), Moment::AfterEffect);
    let _client = send_creation(it.gateway.address(), &it.namespace, "wanted");
    gate.wait_for_arrival().await.unwrap();
    gate.release();
    answered.wait_for_arrival().await.unwrap();
    assert!(it.exists("wanted").await);
}

#[tokio::test]
async fn what_is_held_when_the_gateway_goes_is_never_passed_on() {
    let it = through().await;
    let gate = it.gateway.gate(creations(), Moment::BeforeEffect);
    let creation = it.create("held");
    gate.wait_for_arrival().await.unwrap();
    let Through { gateway, plane, namespace, .. } = it;
    drop(gateway);
    gate.release();
    assert!(creation.await.unwrap().is_err());
    let objects: Api<ConfigMap> = Api::namespaced(plane.admin(), &namespace);
    assert_eq!(objects.get_opt("held").await.unwrap(), None);
}

fn send_creation(gateway: SocketAddr, namespace: &str, name: &str) -> TcpStream {
    let body = json!({"metadata": {"name": name}}).to_string();
    let mut client = TcpStream::connect(gateway).unwrap();
    write!(
        client,
        "POST /api/v1/namespaces/{namespace}/configmaps HTTP/1.1\r\nhost: gateway\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    client
}
