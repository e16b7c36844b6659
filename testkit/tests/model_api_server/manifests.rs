//! The manifests of the operator's tests: accepted and refused, with the same defaults and the same causes.

use std::fs;

use http::Method;
use serde_json::{Value, json};

use super::{
    files,
    pair::{Pair, call, get},
    plane,
};

/// The path of a manifest's resource.
pub fn collection(manifest: &Value, namespace: &str) -> String {
    let group = "/apis/servicekeys.dev/v1alpha1";
    match manifest["kind"].as_str().unwrap() {
        "ClusterKeyProvider" => format!("{group}/clusterkeyproviders"),
        "KeyProvider" => format!("{group}/namespaces/{namespace}/keyproviders"),
        "ServiceKey" => format!("{group}/namespaces/{namespace}/servicekeys"),
        other => panic!("there is no kind `{other}`"),
    }
}

/// All manifests of a folder, as lists of documents.
pub fn manifests(folder: &str) -> Vec<(String, Vec<Value>)> {
    let read = |file: &std::path::PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        let documents =
            text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect();
        (file.file_name().unwrap().to_string_lossy().into_owned(), documents)
    };
    files(folder).iter().map(read).collect()
}

#[tokio::test]
async fn manifests_get_the_same_answers() {
    let namespace = "model-manifests";
    let mut pair = Pair::new(plane().await.admin(), 1);
    pair.send(call(Method::POST, "/api/v1/namespaces", &json!({"metadata": {"name": namespace}}))).await;
    for folder in ["tests/good_manifests", "tests/bad_manifests"] {
        for (file, documents) in manifests(folder) {
            for (at, document) in documents.iter().enumerate() {
                let path = collection(document, namespace);
                let name = document["metadata"]["name"].as_str().unwrap();
                let kind = document["kind"].as_str().unwrap();
                pair.log.push(file.clone());
                if at == 0 {
                    for query in ["?dryRun=All", "?fieldValidation=Strict", ""] {
                        pair.send(call(Method::POST, format!("{path}{query}"), document)).await;
                    }
                } else {
                    let mut document = document.clone();
                    document["metadata"]["resourceVersion"] = format!("§rv:{kind}/{name}:0§").into();
                    for query in ["?dryRun=All", ""] {
                        pair.send(call(Method::PUT, format!("{path}/{name}{query}"), &document)).await;
                    }
                }
                pair.send(get(format!("{path}/{name}"))).await;
            }
        }
    }
    pair.assert_equal("manifests");
}
