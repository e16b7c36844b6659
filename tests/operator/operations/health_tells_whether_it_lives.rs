//! Probes: the operator is ready once it has listed all objects, and alive as long as its watches receive something.

use std::{net::SocketAddr, sync::mpsc, time::Duration};

use http::Method;
use kube::{
    Api, Config,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use servicekey_operator::{
    api::KeyProvider,
    testing::{Health, HealthThresholds, HttpServer, Metrics, Operator, Options, client},
};
use testkit::{
    Moment,
    gateway::{Gateway, Requests},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    task::AbortHandle,
    time::{Instant, sleep},
};

use crate::support::{
    process::Process,
    stage::{PATIENCE, Stage},
};

/// The status and body of an answer.
async fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// An operator behind a gateway, with its probes.
struct Probed {
    server: HttpServer,
    task: AbortHandle,
}

impl Drop for Probed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probed {
    /// Starts an operator on the runtime that polls the future.
    fn start(
        stage: &Stage,
        gateway: &Gateway,
        patience: HealthThresholds,
    ) -> impl Future<Output = Self> + Send + use<> {
        let kubeconfig = Kubeconfig::read_from(gateway.kubeconfig()).unwrap();
        Self::serve(kubeconfig, stage.options(), patience)
    }

    async fn serve(kubeconfig: Kubeconfig, options: Options, patience: HealthThresholds) -> Self {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let metrics = Metrics::default();
        let client = client(config, &metrics).unwrap();
        let operator = Operator::new(client, options).with_metrics(metrics.clone());
        let task = tokio::spawn(operator.run(std::future::pending())).abort_handle();
        let health = Health::new(&metrics, patience);
        Self { server: HttpServer::start(([127, 0, 0, 1], 0).into(), metrics, health).unwrap(), task }
    }

    /// Waits until a probe gives this answer.
    async fn says(&self, path: &str, what: impl Fn(u16, &str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let (status, body) = ask(self.server.address(), path).await;
            if what(status, &body) {
                return body;
            }
            assert!(began.elapsed() < PATIENCE, "`{path}` says {status}: {body}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_when_it_knows_all_objects() {
    let stage = Stage::set().await;
    let gateway = Gateway::start(stage.client.clone()).await.unwrap();
    let lists = gateway.gate(Requests::to(Method::GET, "servicekeys"), Moment::AfterEffect);
    let operator = Probed::start(&stage, &gateway, HealthThresholds::default()).await;
    lists.wait_for_arrival().await.unwrap();
    let path = format!("/apis/servicekeys.dev/v1alpha1/namespaces/{}/servicekeys", stage.namespace);
    let only_these = |status, body: &str| {
        status == 503 && body.lines().count() == 1 && body.contains(&format!("`{path}`"))
    };
    operator.says("/readyz", only_these).await;
    operator.says("/livez", |status, body| (status, body) == (200, "ok\n")).await;

    lists.release();
    operator.says("/readyz", |status, body| (status, body) == (200, "ok\n")).await;
}

/// A runtime for an operator, separate from the test's own.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_executor_ends_its_life() {
    let stage = Stage::set().await;
    let gateway = Gateway::start(stage.client.clone()).await.unwrap();
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let handle = threads.handle().clone();
    let _threads = Threads(Some(threads));
    let patience = HealthThresholds { heartbeat: Duration::from_secs(2), ..HealthThresholds::default() };
    let operator = handle.spawn(Probed::start(&stage, &gateway, patience)).await.unwrap();
    operator.says("/readyz", |status, _| status == 200).await;
    operator.says("/livez", |status, _| status == 200).await;

    let (go_on, stuck) = mpsc::channel::<()>();
    handle.spawn(async move { stuck.recv() });
    let said = operator.says("/livez", |status, _| status == 503).await;
    assert!(said.starts_with("the operator's main loop has been stuck for "), "{said}");
    assert_eq!(ask(operator.server.address(), "/metrics").await.0, 200);
    go_on.send(()).unwrap();
    operator.says("/livez", |status, _| status == 200).await;
}

/// Bookmarks would keep a watch on a quiet API server silent for longer than this test waits, so the test changes
/// objects all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_watch_ends_its_life() {
    let stage = Stage::set().await;
    let gateway = Gateway::start(stage.client.clone()).await.unwrap();
    // The operator first sends the list, then the watch.
    let watches = gateway.gate(Requests::to(Method::GET, "servicekeys").after(1), Moment::BeforeEffect);
    let patience = HealthThresholds { watch: Duration::from_secs(4), ..HealthThresholds::default() };
    let operator = Probed::start(&stage, &gateway, patience).await;
    watches.wait_for_arrival().await.unwrap();
    stage.create_key("monitoring-creds").await;

    let (keys, providers) = (stage.keys(), stage.api::<KeyProvider>());
    let _busy = (busy(keys, "monitoring-creds"), busy(providers, "broker"));
    let long = patience.watch.as_secs() + 2;
    let is_dead = |status, body: &str| status == 503 && silence_of("/servicekeys`", body) >= Some(long);
    let dead = operator.says("/livez", is_dead).await;
    assert_eq!(silence_of("/keyproviders`", &dead), None, "the other watch is alive: {dead}");

    watches.release();
    operator.says("/livez", |_, body| silence_of("/servicekeys`", body).is_none()).await;
}

/// The seconds of silence of a watch, according to a probe.
fn silence_of(watch: &str, body: &str) -> Option<u64> {
    let line = body.lines().find(|line| line.contains(watch))?;
    let (_, silence) = line.rsplit_once("has been silent for ")?;
    silence.strip_suffix(" s")?.parse().ok()
}

/// Changes an object continuously until this is dropped.
struct Busy(AbortHandle);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn busy<K>(api: Api<K>, name: &'static str) -> Busy
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let changes = async move {
        for number in 0_u64.. {
            let change = json!({"metadata": {"annotations": {"example.com/busy": number.to_string()}}});
            api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
            sleep(Duration::from_millis(200)).await;
        }
    };
    Busy(tokio::spawn(changes).abort_handle())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_serves_probes_and_metrics() {
    let stage = Stage::set().await;
    let operator = Process::start(&stage).await;
    let address = operator.http_address().await;
    stage.create_key("monitoring-creds").await;
    stage.wait_ready("monitoring-creds").await;
    assert_eq!(ask(address, "/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(ask(address, "/livez").await, (200, "ok\n".to_owned()));
    let (status, metrics) = ask(address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("\nservicekeys_leader 1\n"), "{metrics}");
    assert!(metrics.contains("operation=\"bind\",outcome=\"done\"} 1\n"), "{metrics}");
    assert_eq!(ask(address, "/").await.0, 404);
}
