//! The record of a release: its definitions, objects of every kind as the API server stored them, and their keys at the
//! remote sides. `tests/releases/` keeps one folder for each version.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use testkit::{broker::FakeBroker, cloud_foundry::FakeCloudFoundry, ibm_cloud::FakeIbmCloud};

/// A placeholder for namespaces that no operator serves.
pub const UNSERVED: &str = "unserved";

#[derive(Debug)]
pub struct Release {
    pub version: String,
    pub definitions: Vec<CustomResourceDefinition>,
    pub objects: Vec<Value>,
    pub remote: Remote,
}

/// The remote sides that the objects refer to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Remote {
    /// The time of the record. Times in the objects are close to it.
    pub recorded_at: Timestamp,
    /// The namespace that the operator served.
    pub namespace: String,
    pub bindings: Vec<BrokerKey>,
    pub foundry_keys: Vec<FoundryKey>,
    pub ibm_keys: Vec<IbmKey>,
}

/// Pairs of the placeholder for a remote side's address in the objects, and its current address.
pub fn urls(
    broker: &FakeBroker,
    foundry: &FakeCloudFoundry,
    ibm: &FakeIbmCloud,
) -> [(&'static str, String); 4] {
    [
        ("https://broker.invalid", broker.url()),
        ("https://foundry.invalid", foundry.url()),
        ("https://resource-controller.invalid", ibm.url()),
        ("https://iam.invalid", ibm.iam_url()),
    ]
}

/// A binding as it was requested.
#[derive(Debug, Serialize, Deserialize)]
pub struct BrokerKey {
    pub id: String,
    pub instance: String,
    pub body: Value,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct FoundryKey {
    pub guid: String,
    pub name: String,
    pub labels: std::collections::BTreeMap<String, String>,
    pub annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct IbmKey {
    pub guid: String,
    pub name: String,
    pub role: Option<String>,
}

impl Release {
    fn folder(version: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/releases").join(version)
    }

    /// All releases whose objects this version must support.
    pub fn all() -> Vec<Self> {
        let folders = fs::read_dir(Self::folder("")).unwrap().map(|entry| entry.unwrap().file_name());
        folders.map(|version| Self::read(version.to_str().unwrap())).collect()
    }

    fn read(version: &str) -> Self {
        let folder = Self::folder(version);
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let definitions = fs::read_dir(folder.join("crds")).unwrap().map(|entry| entry.unwrap().path());
        Self {
            version: version.to_owned(),
            definitions: definitions
                .map(|path| serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap())
                .collect(),
            objects: serde_json::from_str(&text("objects.json")).unwrap(),
            remote: serde_json::from_str(&text("remote.json")).unwrap(),
        }
    }

    /// Writes the record into its folder, with the definitions of `crds/`.
    pub fn write(&self) {
        let folder = Self::folder(&self.version);
        fs::create_dir_all(folder.join("crds")).unwrap();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crds")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.join("crds").join(entry.file_name())).unwrap();
        }
        let write = |name: &str, json: String| fs::write(folder.join(name), json + "\n").unwrap();
        write("objects.json", serde_json::to_string_pretty(&self.objects).unwrap());
        write("remote.json", serde_json::to_string_pretty(&self.remote).unwrap());
    }

    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }
}
