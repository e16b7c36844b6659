//! What a test may look at afterwards: calls, breaches of the specification, living bindings.

use std::fmt;

use axum::http::Method;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{credentials::BindingMetadata, operation::OriginatingIdentity, route::Route};
use crate::remote::FieldNames;

/// A rule of the specification that a client can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Call only what is there.
    KnownRoute,
    /// Log in with the right credentials.
    Login,
    /// Ask for no more than the [limit](super::Builder::limit) allows.
    RateLimit,
    /// Send `X-Broker-API-Version` with the version that the broker supports, by default 2.17.
    ApiVersion,
    /// Send a UUID as `X-Broker-API-Request-Identity`.
    RequestIdentity,
    /// Say on whose behalf a binding is made, read or deleted.
    OriginatingIdentity,
    /// Send known query parameters, once each, with values that they can have, and all that are required.
    Query,
    /// Use a UUID, written in lower case with hyphens, as a binding's id.
    BindingId,
    /// Declare a body as `application/json`.
    ContentType,
    /// Send a body of the specified fields.
    Body,
    /// Say which platform and namespace a binding is for.
    Context,
    /// Name an offering and a plan of the catalog that are those of the instance.
    OfferingAndPlan,
    /// Bind only what can be bound.
    Bindable,
    /// Name a predecessor only where the plan is `binding_rotatable`.
    Rotatable,
    /// Read back only what is `bindings_retrievable` or `instances_retrievable`.
    Retrievable,
    /// Accept an asynchronous bind only where the binding can be read back afterwards.
    AcceptsIncomplete,
    /// Poll only what is under way, and what a poll can still be told the end of.
    UnderWay,
    /// Poll with the `operation` that was handed out last, and without one where none was.
    OperationToken,
}

/// One breach of the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule that was broken.
    pub rule: Rule,
    /// The call that broke it, counted from 0 as in [`calls`](super::FakeBroker::calls).
    pub call: usize,
    /// What was wrong.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} broke {:?}: {}", self.call, self.rule, self.detail)
    }
}

/// One call, from its arrival on. `Debug` shows the body's field names only.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Call {
    /// The HTTP method.
    pub method: Method,
    /// Path and query as they were sent.
    pub path: String,
    /// The endpoint.
    pub route: Route,
    /// The instance's id, decoded.
    pub instance: Option<String>,
    /// The binding's id, decoded.
    pub binding: Option<String>,
    /// The status that was answered; nothing while the call is under way, where the connection was cut, and
    /// where the client did not wait for the answer.
    pub status: Option<u16>,
    /// `X-Broker-API-Version`.
    pub api_version: Option<String>,
    /// `X-Broker-API-Request-Identity`.
    pub request_identity: Option<String>,
    /// `X-Broker-API-Originating-Identity`, where it is well-formed.
    pub originating_identity: Option<OriginatingIdentity>,
    /// The body, where it is JSON.
    pub body: Option<Value>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            method,
            path,
            route,
            instance: _,
            binding: _,
            status,
            api_version,
            request_identity,
            originating_identity,
            body,
        } = self;
        f.debug_struct("Call")
            .field("method", method)
            .field("path", path)
            .field("route", route)
            .field("status", status)
            .field("api_version", api_version)
            .field("request_identity", request_identity)
            .field("originating_identity", originating_identity)
            .field("body", &body.as_ref().and_then(Value::as_object).map(FieldNames))
            .finish_non_exhaustive()
    }
}

/// One binding that takes up room at the broker. `Debug` shows the names of parameters and credentials only.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Binding {
    /// The id that the client chose.
    pub id: Uuid,
    /// The instance that it belongs to.
    pub instance: String,
    /// 1 for the first binding that this broker ever made, 2 for the next one.
    pub number: u64,
    /// The binding that this one replaces.
    pub predecessor: Option<Uuid>,
    /// The context of the request.
    pub context: Map<String, Value>,
    /// The parameters of the request.
    pub parameters: Map<String, Value>,
    /// What the broker handed out.
    pub credentials: Map<String, Value>,
    /// When it ends, and when it should be replaced.
    pub metadata: BindingMetadata,
    /// Whether the bind failed and left this behind: it can't be read back, and only an unbind removes it.
    pub orphan: bool,
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, instance, number, predecessor, context, parameters, credentials, metadata, orphan } =
            self;
        f.debug_struct("Binding")
            .field("id", id)
            .field("instance", instance)
            .field("number", number)
            .field("predecessor", predecessor)
            .field("context", context)
            .field("parameters", &FieldNames(parameters))
            .field("credentials", &FieldNames(credentials))
            .field("metadata", metadata)
            .field("orphan", orphan)
            .finish()
    }
}
