//! Remote sides that a tenant runs to fill the operator's memory.

use std::{
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header::HOST},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub const MIB: usize = 1 << 20;

/// The path of the keys of a Cloud Foundry.
const KEYS: &str = "/v3/service_credential_bindings";

/// The kind of unexpected answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostility {
    /// A broker whose catalog has 15 MiB of descriptions, more than those of the largest marketplaces.
    LongCatalog,
    /// A broker whose catalog has 15 MiB of names.
    CatalogOfNames,
    /// A broker that answers each bind with nested lists, which take fifty times their size in memory.
    CredentialsOfLists,
    /// A Cloud Foundry whose lists always have another page of 4 MiB, without items.
    EndlessFoundry,
    /// An IBM Cloud whose lists always have another page of 4 MiB, with items that the operator does not need.
    EndlessIbm,
    /// A Cloud Foundry whose lists contain 16 MiB of keys, all with the mark of the last key that was created.
    Lookalikes,
    /// A Cloud Foundry whose list of keys grows to some 14 MiB, and whose next page never ends.
    Trickle,
    /// A Cloud Foundry or IBM Cloud whose small pages link in a circle.
    Circle,
    /// A token server whose tokens have 1 MiB.
    LongToken,
    /// A broker that sends one byte of its catalog each second.
    Slow,
}

/// A remote side that a tenant runs.
#[derive(Clone)]
pub struct Hostile {
    pub url: String,
    side: Arc<Side>,
}

struct Side {
    hostility: Hostility,
    /// The UID of the ServiceKey that the last key was created for.
    owner: Mutex<Option<String>>,
    /// The number of lists of lookalikes, or of endless pages, that were answered.
    answered: AtomicUsize,
}

impl Hostile {
    /// The number of its hostile answers.
    pub fn answered(&self) -> usize {
        self.side.answered.load(Ordering::Relaxed)
    }
}

/// Starts a remote side of this kind. It ends with the test.
pub async fn start(hostility: Hostility) -> Hostile {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let side = Arc::new(Side { hostility, owner: Mutex::default(), answered: AtomicUsize::new(0) });
    let router = Router::new().fallback(answer).with_state(Arc::clone(&side));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Hostile { url, side }
}

async fn answer(
    State(side): State<Arc<Side>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let hostility = side.hostility;
    let here = format!("http://{}", headers[HOST].to_str().unwrap());
    match uri.path() {
        "/" => {
            let links = json!({"cloud_controller_v3": {"href": format!("{here}/v3")}, "uaa": {"href": here}});
            json_of(&json!({"links": links}))
        }
        "/oauth/token" | "/identity/token" => {
            let length = if hostility == Hostility::LongToken { MIB } else { 32 };
            json_of(&json!({"access_token": "t".repeat(length), "token_type": "bearer", "expires_in": 3600}))
        }
        "/v2/catalog" => catalog(hostility),
        "/v3/organizations" | "/v3/spaces" => json_of(&json!({"resources": [{"guid": "a"}]})),
        KEYS if method == Method::POST => {
            let body: Value = serde_json::from_slice(&body).unwrap();
            let owner = body["metadata"]["labels"]["servicekeys.dev/owner"].as_str().map(str::to_owned);
            *side.owner.lock().unwrap() = owner;
            StatusCode::ACCEPTED.into_response()
        }
        KEYS if hostility == Hostility::Lookalikes => lookalikes(&side),
        KEYS if hostility == Hostility::Trickle => trickle(&side, &here, &uri),
        "/v3/service_instances" if hostility == Hostility::Lookalikes => {
            json_of(&json!({"resources": [{"guid": "i", "type": "managed"}]}))
        }
        path if path.starts_with("/v3/") || path.starts_with("/v2/resource_") => page(hostility, &here, &uri),
        _ if method == Method::PUT => bound(hostility),
        _ => json_of(&json!({})),
    }
}

fn json_of(body: &Value) -> Response {
    ([("content-type", "application/json")], body.to_string()).into_response()
}

fn text(body: String) -> Response {
    ([("content-type", "application/json")], body).into_response()
}

fn catalog(hostility: Hostility) -> Response {
    let plan = |number: usize, name: &str, description: usize| {
        json!({
            "id": format!("p-{number}"), "name": name, "description": "x".repeat(description), "free": true,
        })
    };
    let plans: Vec<_> = match hostility {
        Hostility::LongCatalog => (0..15).map(|number| plan(number, "small", MIB - 200)).collect(),
        Hostility::CatalogOfNames => (0..15_000).map(|number| plan(number, &"n".repeat(1000), 0)).collect(),
        Hostility::Slow => {
            return Body::from_stream(drops()).into_response();
        }
        _ => vec![plan(0, "small", 10)],
    };
    let mut services = Vec::new();
    for (number, plans) in plans.chunks(5000).enumerate() {
        services.push(json!({
            "id": format!("s-{number}"), "name": "postgresql", "bindable": true, "plans": plans,
        }));
    }
    json_of(&json!({ "services": services }))
}

fn bound(hostility: Hostility) -> Response {
    let credentials = match hostility {
        Hostility::CredentialsOfLists => {
            let mut lists = String::from("{\"credentials\":{\"lists\":[");
            for _ in 0..MIB / 8 - 100 {
                lists.push_str("[[[]]],");
            }
            lists.push_str("[]]}}");
            return text(lists);
        }
        _ => "s3cret".to_owned(),
    };
    (StatusCode::CREATED, text(json!({"credentials": {"password": credentials}}).to_string())).into_response()
}

/// A key of a Cloud Foundry whose strings have the greatest length that the operator reads, with an annotation of this
/// name.
fn long_key(owner: &str, long_name: &str) -> String {
    let word = "w".repeat(1000);
    format!(
        "{{\"guid\":\"{word}\",\"name\":\"{word}\",\"last_operation\":{{\"type\":\"create\",\"state\":\"in progress\"}},\
         \"metadata\":{{\"labels\":{{\"servicekeys.dev/managed-by\":\"servicekey-operator\",\"servicekeys.dev/owner\":\
         \"{owner}\"}},\"annotations\":{{\"servicekeys.dev/sequence\":\"1\",\
         \"servicekeys.dev/namespace\":\"{word}\",\"servicekeys.dev/{long_name}\":\"x\"}}}}}}"
    )
}

/// Each of these keys may be the one that the operator waits for.
fn lookalikes(side: &Side) -> Response {
    let Some(owner) = side.owner.lock().unwrap().clone() else {
        return json_of(&json!({"resources": []}));
    };
    side.answered.fetch_add(1, Ordering::Relaxed);
    let small = long_key(&owner, "x");
    let mut keys = vec![long_key(&owner, &"x".repeat(MIB)); 4];
    keys.extend(std::iter::repeat_n(small, 11 * MIB / 3300));
    text(format!("{{\"resources\":[{}]}}", keys.join(",")))
}

/// Pages of 256 KiB, which the operator keeps in full.
fn trickle(side: &Side, here: &str, uri: &Uri) -> Response {
    let number = start_of(uri);
    if number >= 52 {
        side.answered.fetch_add(1, Ordering::Relaxed);
        return Body::from_stream(drops()).into_response();
    }
    let keys = vec![long_key("6f1d3c1a-3f43-4d0c-9d5e-5f3f0c5f8a01", "x"); 80].join(",");
    let next = format!("{here}{KEYS}?start={}", number + 1);
    text(format!("{{\"pagination\":{{\"next\":{{\"href\":\"{next}\"}}}},\"resources\":[{keys}]}}"))
}

fn drops() -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    futures::stream::unfold((), async |()| {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        Some((Ok(Bytes::from_static(b" ")), ()))
    })
}

fn start_of(uri: &Uri) -> u64 {
    let fields = uri.query().unwrap_or_default().split('&');
    fields.filter_map(|field| field.strip_prefix("start=")?.parse().ok()).next().unwrap_or_default()
}

/// One page of a list. Only the hostile kinds have a next page.
fn page(hostility: Hostility, here: &str, uri: &Uri) -> Response {
    let number = start_of(uri);
    let mut items = String::new();
    if matches!(hostility, Hostility::EndlessFoundry | Hostility::EndlessIbm) {
        let padding = "x".repeat(4 * MIB / 10);
        for item in 0..10 {
            let comma = if item == 0 { "" } else { "," };
            write!(items, "{comma}{{\"guid\":\"{number}-{item}\",\"crn\":\"c\",\"name\":\"n\",\"padding\":\"{padding}\"}}")
                .unwrap();
        }
    }
    let next = match hostility {
        Hostility::EndlessFoundry | Hostility::EndlessIbm => Some(number + 1),
        Hostility::Circle => Some((number + 1) % 3),
        _ => None,
    };
    let next = next.map(|next| format!("{}?start={next}", uri.path()));
    let links = match next {
        Some(next) => {
            format!("\"pagination\":{{\"next\":{{\"href\":\"{here}{next}\"}}}},\"next_url\":\"{next}\",")
        }
        None => String::new(),
    };
    let (items, padding) =
        if hostility == Hostility::EndlessFoundry { ("", items) } else { (&*items, String::new()) };
    text(format!("{{{links}\"included\":[{padding}],\"resources\":[{items}]}}"))
}
