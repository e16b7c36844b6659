//! Patches: JSON merge patches and JSON patches.

use serde_json::Value;

use super::{
    request::{Request, Unclear},
    status::Refusal,
};

/// Applies the patch in the body of a request.
pub(super) fn apply(request: &Request, object: &mut Value) -> Result<(), Unclear> {
    let malformed = |error: serde_json::Error| Refusal::bad_request(format!("error decoding patch: {error}"));
    match request.content_type.split(';').next().unwrap_or_default() {
        "application/merge-patch+json" => {
            let patch: Value = serde_json::from_slice(&request.body).map_err(malformed)?;
            if !patch.is_object() {
                return Err(Refusal::bad_request("error decoding patch: it is not an object").into());
            }
            json_patch::merge(object, &patch);
            Ok(())
        }
        "application/json-patch+json" => {
            let patch: json_patch::Patch = serde_json::from_slice(&request.body).map_err(malformed)?;
            json_patch::patch(object, &patch)
                .map_err(|error| Refusal::new(422, "Invalid", format!("the patch failed: {error}")).into())
        }
        other => Err(Unclear::Unmodelled(format!("a patch of the type `{other}`"))),
    }
}
