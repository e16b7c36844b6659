//! The catalog.

use serde_json::{Value, json};

/// The ids never change, because platforms identify the offering and the plan by them.
pub const OFFERING_ID: &str = "f3a3a5ce-3b0c-4d5c-9d0c-6f6d3a1f2f64";
pub const PLAN_ID: &str = "0f2c6a2e-8c1d-4a36-9a52-0f8a6c9b7d1e";

/// The answer to `GET /v2/catalog`.
pub fn catalog() -> Value {
    let parameters = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": { "access": { "enum": ["read-write", "read-only"], "default": "read-write" } },
        "additionalProperties": false,
    });
    json!({ "services": [{
        "id": OFFERING_ID,
        "name": "postgresql",
        "description": "A PostgreSQL database, and a login of its own for everybody who uses it",
        "tags": ["postgresql", "relational"],
        "bindable": true,
        // The broker can derive the password of a binding again, so it can return the credentials again.
        "bindings_retrievable": true,
        "instances_retrievable": false,
        "plans": [{
            "id": PLAN_ID,
            "name": "small",
            "description": "A database on a server that it shares with others",
            "free": true,
            "schemas": { "service_binding": { "create": { "parameters": parameters } } },
        }],
    }]})
}
