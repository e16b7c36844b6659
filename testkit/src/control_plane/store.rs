//! Stores objects of an earlier release. They bypass the API server, which would give each object another UID.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{ControlPlane, Error};

impl ControlPlane {
    /// Writes an object into etcd in the form that the API server stores, with its UID and status, and with a new
    /// resourceVersion. `resource` is its kind in the store, such as `secrets` or `servicekeys.dev/servicekeys`.
    ///
    /// # Errors
    /// The object has no name, or etcd refuses it.
    pub async fn store(&self, resource: &str, object: &Value) -> Result<(), Error> {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let place = ["namespace", "name"].into_iter().filter_map(|part| object["metadata"][part].as_str());
        let path = ["/registry", resource].into_iter().chain(place).collect::<Vec<_>>().join("/");
        let failed = |error: reqwest::Error| Error::Store { path: path.clone(), source: error };
        let put = json!({"key": STANDARD.encode(&path), "value": STANDARD.encode(object.to_string())});
        let url = format!("{}/v3/kv/put", self.site.etcd_url());
        let answer = reqwest::Client::new().post(url).json(&put).send().await.map_err(failed)?;
        answer.error_for_status().map_err(failed)?;
        Ok(())
    }
}
