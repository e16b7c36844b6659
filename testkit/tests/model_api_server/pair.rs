//! A real server and a model that get the same requests.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, header};
use jiff::Timestamp;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::Value;
use testkit::simulation::api_server::{Answer, ApiServer, Call, Definitions, WatchStream};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    definitions,
    normal::{Normal, pretty_difference},
};

/// The time in which the real server delivers an event.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time in which events arrive that the model does not expect.
const SILENCE: Duration = Duration::from_millis(300);

static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(|| Definitions::new(&definitions()).unwrap());

/// The UIDs and versions that one server has answered so far, for later requests.
#[derive(Default)]
struct Memory {
    versions: BTreeMap<String, Vec<(String, String)>>,
    lists: Vec<(String, String)>,
}

impl Memory {
    fn learn(&mut self, answer: &Value) {
        let metadata = &answer["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        if answer.get("items").is_some() {
            self.lists.push((text("resourceVersion"), text("continue")));
        } else if metadata.get("uid").is_some() {
            let key = format!("{}/{}", answer["kind"].as_str().unwrap_or_default(), text("name"));
            self.versions.entry(key).or_default().push((text("uid"), text("resourceVersion")));
        }
    }

    /// Replaces `§uid:KIND/NAME:N§`, `§rv:KIND/NAME:N§`, `§list§` and `§continue§`. `N` counts from the latest.
    fn resolve(&self, text: &str) -> String {
        let mut parts = text.split('§');
        let mut resolved = parts.next().unwrap_or_default().to_owned();
        while let Some(reference) = parts.next() {
            resolved += &self.find(reference);
            resolved += parts.next().unwrap_or_default();
        }
        resolved
    }

    fn find(&self, reference: &str) -> String {
        let list = || self.lists.last().cloned().unwrap_or_default();
        match *reference.split(':').collect::<Vec<_>>() {
            ["list"] => list().0,
            ["continue"] => list().1,
            [part, key, back] => {
                let known = self.versions.get(key).map(Vec::as_slice).unwrap_or_default();
                let at = back.parse::<usize>().unwrap() % known.len().max(1);
                let found = known.iter().rev().nth(at).cloned();
                let (uid, version) = found.unwrap_or(("none".to_owned(), "1".to_owned()));
                if part == "uid" { uid } else { version }
            }
            _ => panic!("not a reference: {reference}"),
        }
    }

    fn resolved(&self, call: &Call) -> Call {
        let body = self.resolve(std::str::from_utf8(&call.body).unwrap());
        Call { target: self.resolve(&call.target), body: body.into(), ..call.clone() }
    }
}

/// Both servers.
pub struct Pair {
    client: Client,
    pub model: ApiServer,
    of_real: Memory,
    of_model: Memory,
    pub normal: [Normal; 2],
    watches: Vec<WatchPair>,
    /// The requests and the differences so far.
    pub log: Vec<String>,
    pub differences: Vec<String>,
}

struct WatchPair {
    target: String,
    real: Arc<Mutex<Vec<Value>>>,
    reader: JoinHandle<()>,
    model: WatchStream,
}

impl Pair {
    pub fn new(client: Client, seed: u64) -> Self {
        let model = ApiServer::new(&DEFINITIONS, Arc::new(Timestamp::now), seed);
        Self {
            client,
            model,
            of_real: Memory::default(),
            of_model: Memory::default(),
            normal: [Normal::default(), Normal::default()],
            watches: Vec::new(),
            log: Vec::new(),
            differences: Vec::new(),
        }
    }

    /// Sends a request to both, compares the answers, and returns the code and the answer of the real server.
    pub async fn send(&mut self, call: Call) -> (u16, Value) {
        let asked = self.of_real.resolved(&call);
        if asked.target.contains("resourceVersion=0") {
            // The answer comes from a cache, which a list without a version brings up to date.
            let fresh = asked.target.replace("resourceVersion=0", "");
            self.ask_real(&Call { target: fresh, ..asked.clone() }).await;
        }
        let (code, real) = self.ask_real(&asked).await;
        let Answer::Complete { code: of_model, body } = self.model.answer(&self.of_model.resolved(&call))
        else {
            panic!("the request begins a watch: {}", call.target);
        };
        let model: Value = serde_json::from_str(&body).unwrap();
        self.of_real.learn(&real);
        self.of_model.learn(&model);
        let [normal_real, normal_model] = &mut self.normal;
        let (of_real, of_modelled) = (normal_real.answer(&real), normal_model.answer(&model));
        self.log.push(format!(
            "{} {} {} -> {code}",
            call.method,
            call.target,
            String::from_utf8_lossy(&call.body)
        ));
        if (code, &of_real) != (of_model, &of_modelled) {
            let difference = pretty_difference(&of_real, &of_modelled);
            let path = call.target.split(['?', '§']).next().unwrap_or_default().trim_end_matches("/status");
            let history: Vec<_> =
                self.log.iter().rev().filter(|line| line.contains(path)).take(6).cloned().collect();
            let history: Vec<_> = history.into_iter().rev().collect();
            let words = format!("{}, the model {of_model}:\n{difference}", history.join("\n"));
            self.differences.push(words);
        }
        (code, real)
    }

    /// Sends a request to the real server only.
    pub async fn ask_real(&self, call: &Call) -> (u16, Value) {
        let (code, body) = self.open(call).await;
        let bytes = body.collect_bytes().await.unwrap();
        let text = String::from_utf8_lossy(&bytes);
        (code, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}: {code} {text}", call.target)))
    }

    async fn open(&self, call: &Call) -> (u16, Body) {
        let request = Request::builder()
            .method(call.method.clone())
            .uri(&call.target)
            .header(header::ACCEPT, &call.accept)
            .header(header::CONTENT_TYPE, &call.content_type)
            .body(Body::from(call.body.to_vec()))
            .unwrap();
        let (parts, body) = self.client.send(request).await.unwrap().into_parts();
        (parts.status.as_u16(), body)
    }

    /// Begins a watch of both servers, at the version of the last list of each.
    pub async fn watch(&mut self, call: Call) {
        let at = if call.target.contains("resourceVersion") { "" } else { "&resourceVersion=§list§" };
        let call = Call { target: format!("{}&watch=true{at}", call.target), ..call };
        let (code, body) = self.open(&self.of_real.resolved(&call)).await;
        assert_eq!(code, 200);
        let real = Arc::new(Mutex::new(Vec::new()));
        let reader = tokio::spawn(read_events(body, Arc::clone(&real)));
        let Answer::Watch(model) = self.model.answer(&self.of_model.resolved(&call)) else {
            panic!("the model refuses the watch {}", call.target);
        };
        self.watches.push(WatchPair {
            target: format!("{} as {}", call.target, call.accept),
            real,
            reader,
            model,
        });
    }

    /// Compares the events of all watches so far.
    pub async fn compare_events(&mut self) {
        self.compare_events_but(|_| false).await;
    }

    /// Compares the events of all watches so far, without some of them.
    pub async fn compare_events_but(&mut self, is_ignored: fn(&Value) -> bool) {
        for watch in std::mem::take(&mut self.watches) {
            let mut model: Vec<Value> = Vec::new();
            while let Some(line) = watch.model.try_next() {
                model.push(serde_json::from_slice(&line).unwrap());
            }
            model.retain(|event| !is_ignored(event));
            let arrived = async {
                while watch.real.lock().iter().filter(|event| !is_ignored(event)).count() < model.len() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let _ = timeout(PATIENCE, arrived).await;
            tokio::time::sleep(SILENCE).await;
            watch.reader.abort();
            let mut real = watch.real.lock().clone();
            real.retain(|event| !is_ignored(event));
            let [real, model] = [(0, real), (1, model)].map(|(side, events)| {
                events.iter().map(|event| self.normal[side].event(event)).collect::<Vec<_>>()
            });
            for at in 0..real.len().max(model.len()) {
                let (real, model) = (real.get(at), model.get(at));
                if real != model {
                    let null = Value::Null;
                    let difference = pretty_difference(real.unwrap_or(&null), model.unwrap_or(&null));
                    self.differences.push(format!("event {at} of {}:\n{difference}", watch.target));
                    break;
                }
            }
        }
    }

    /// How the servers differed.
    pub fn failure(&self, what: &str) -> Option<String> {
        let unmodelled = self.model.unmodelled();
        let count = self.differences.len();
        (count + unmodelled.len() > 0)
            .then(|| format!("{what}: {count} differences:\n{}\n{unmodelled:?}", self.differences.join("\n")))
    }

    /// Fails if the servers differed.
    pub fn assert_equal(&self, what: &str) {
        if let Some(failure) = self.failure(what) {
            panic!("{failure}");
        }
    }
}

async fn read_events(body: Body, events: Arc<Mutex<Vec<Value>>>) {
    let mut frames = http_body_frames(body);
    let mut buffer = Vec::new();
    while let Some(bytes) = frames.next().await {
        buffer.extend_from_slice(&bytes);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            events.lock().push(serde_json::from_slice(&line).unwrap());
        }
    }
}

fn http_body_frames(body: Body) -> impl futures::Stream<Item = Bytes> + Unpin {
    Box::pin(futures::stream::unfold(body, |mut body| async move {
        let frame = std::future::poll_fn(|context| {
            http_body::Body::poll_frame(std::pin::Pin::new(&mut body), context)
        });
        let data = frame.await?.ok()?.into_data().ok()?;
        Some((data, body))
    }))
}

/// A request with a JSON body.
pub fn call(method: Method, target: impl Into<String>, body: &Value) -> Call {
    Call::new(method, target).with_body(body)
}

pub fn get(target: impl Into<String>) -> Call {
    Call::new(Method::GET, target)
}
