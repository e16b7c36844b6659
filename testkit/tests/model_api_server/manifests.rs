//! The manifests of the operator's tests: accepted and refused, with the same defaults and the same causes.

use std::{collections::BTreeSet, fs};

use http::Method;
use serde_json::{Value, json};

use super::{
    definitions, files,
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
    let mut refusals = String::new();
    for folder in ["tests/good_manifests", "tests/bad_manifests"] {
        for (file, documents) in manifests(folder) {
            for (at, document) in documents.iter().enumerate() {
                let path = collection(document, namespace);
                let name = document["metadata"]["name"].as_str().unwrap();
                let kind = document["kind"].as_str().unwrap();
                pair.log.push(file.clone());
                if at == 0 {
                    for query in ["?dryRun=All", "?fieldValidation=Strict", ""] {
                        let (_, answer) =
                            pair.send(call(Method::POST, format!("{path}{query}"), document)).await;
                        refusals += answer["message"].as_str().unwrap_or_default();
                    }
                } else {
                    let mut document = document.clone();
                    document["metadata"]["resourceVersion"] = format!("§rv:{kind}/{name}:0§").into();
                    for query in ["?dryRun=All", ""] {
                        let request = call(Method::PUT, format!("{path}/{name}{query}"), &document);
                        let (_, answer) = pair.send(request).await;
                        refusals += answer["message"].as_str().unwrap_or_default();
                    }
                }
                pair.send(get(format!("{path}/{name}"))).await;
            }
        }
    }
    // Rules ignore the order of sets and maps.
    let path = collection(&json!({"kind": "ServiceKey"}), namespace);
    let name = "key-with-its-own-service-id";
    let (_, mut key) = pair.ask_real(&get(format!("{path}/{name}"))).await;
    let access = key["spec"]["ibmCloud"]["access"].as_object_mut().unwrap();
    access.values_mut().filter_map(Value::as_array_mut).for_each(|list| list.reverse());
    key["metadata"] = json!({"name": name, "resourceVersion": format!("§rv:ServiceKey/{name}:0§")});
    let (code, _) = pair.send(call(Method::PUT, format!("{path}/{name}"), &key)).await;
    assert_eq!(code, 200);
    pair.assert_equal("manifests");
    let unseen: Vec<_> = rule_messages().into_iter().filter(|message| !refusals.contains(message)).collect();
    assert!(unseen.is_empty(), "no manifest violates the rules with these messages: {unseen:#?}");
}

/// The messages of all validation rules.
fn rule_messages() -> BTreeSet<String> {
    let mut messages = BTreeSet::new();
    let mut schemas: Vec<Value> = definitions();
    while let Some(schema) = schemas.pop() {
        let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
        messages.extend(rules.filter_map(|rule| rule["message"].as_str()).map(str::to_owned));
        match schema {
            Value::Object(fields) => schemas.extend(fields.into_iter().map(|(_, value)| value)),
            Value::Array(values) => schemas.extend(values),
            _ => {}
        }
    }
    messages
}
