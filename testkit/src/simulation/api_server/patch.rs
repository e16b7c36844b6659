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
            let mut patch: json_patch::Patch = serde_json::from_slice(&request.body).map_err(malformed)?;
            patch.0.iter_mut().for_each(|operation| allow_absent(operation, object));
            // The API server does not say why a patch fails.
            let words = "the server rejected our request due to an error in our request";
            json_patch::patch(object, &patch).map_err(|_| Refusal::new(422, "Invalid", words).into())
        }
        other => Err(Unclear::Unmodelled(format!("a patch of the type `{other}`"))),
    }
}

/// The library of the API server lets `replace` add a field that is absent. This differs from RFC 6902.
fn allow_absent(operation: &mut json_patch::PatchOperation, object: &Value) {
    if let json_patch::PatchOperation::Replace(replace) = operation
        && object.pointer(replace.path.as_str()).is_none()
    {
        let (path, value) = (replace.path.clone(), replace.value.clone());
        *operation = json_patch::PatchOperation::Add(json_patch::AddOperation { path, value });
    }
}
