//! Remote sides that a tenant runs to fill the operator's memory.

use std::fmt::Write;

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

/// What a remote side answers that is not as anybody expects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostility {
    /// A broker whose catalog has 15 MiB of descriptions, as the largest marketplaces have a few of.
    LongCatalog,
    /// A broker whose catalog has 15 MiB of names.
    CatalogOfNames,
    /// A broker that answers each bind with lists of lists, which take fifty times their size in memory.
    CredentialsOfLists,
    /// A Cloud Foundry whose lists have another page of 4 MiB, each time.
    EndlessFoundry,
    /// An IBM Cloud whose lists have another page of 4 MiB, each time.
    EndlessIbm,
    /// A Cloud Foundry or IBM Cloud whose pages are small and lead in a circle.
    Circle,
    /// A token server whose tokens have a mebibyte.
    LongToken,
    /// A broker that sends one byte of its catalog each second.
    Slow,
}

/// Starts a remote side of this kind; it ends with the test.
pub async fn start(hostility: Hostility) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(hostility);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn answer(
    State(hostility): State<Hostility>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
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
            let drops = futures::stream::unfold((), async |()| {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
            });
            return Body::from_stream(drops).into_response();
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

/// One page of a list, and where the next one is: nowhere but with the hostile ones.
fn page(hostility: Hostility, here: &str, uri: &Uri) -> Response {
    let fields = uri.query().unwrap_or_default().split('&');
    let number: u64 =
        fields.filter_map(|field| field.strip_prefix("start=")?.parse().ok()).next().unwrap_or_default();
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
    text(format!("{{{links}\"resources\":[{items}]}}"))
}
