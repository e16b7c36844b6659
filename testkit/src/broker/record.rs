//! The record that a test reads afterwards: calls, violations of the specification, bindings.

use std::fmt;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{credentials::BindingMetadata, operation::OriginatingIdentity, route::Route};
use crate::remote::{self, FieldNames};

/// A rule of the specification that a client can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Call only known endpoints.
    KnownRoute,
    /// Log in with the right credentials.
    Login,
    /// Send no more requests than the [limit](super::Builder::limit) allows.
    RateLimit,
    /// Send `X-Broker-API-Version` with the version that the broker supports, by default 2.17.
    ApiVersion,
    /// Send a UUID as `X-Broker-API-Request-Identity`.
    RequestIdentity,
    /// Name the user for whom a binding is created, read or deleted.
    OriginatingIdentity,
    /// Send only known query parameters, once each, with valid values, and all required ones.
    Query,
    /// Use a UUID, written in lower case with hyphens, as a binding's id.
    BindingId,
    /// Declare the body as `application/json`.
    ContentType,
    /// Send a body with the specified fields.
    Body,
    /// Name the platform and the namespace of a binding.
    Context,
    /// Name the instance's offering and plan, which the catalog must have.
    OfferingAndPlan,
    /// Bind only instances of bindable plans.
    Bindable,
    /// Name a predecessor only if the plan is `binding_rotatable`.
    Rotatable,
    /// Read a binding or an instance only if it is `bindings_retrievable` or `instances_retrievable`.
    Retrievable,
    /// Accept an asynchronous bind only if the binding can be read afterwards.
    AcceptsIncomplete,
    /// Poll only an operation that is under way, or whose end a poll can still report.
    UnderWay,
    /// Poll with the latest `operation` of the broker, and without one if the broker sent none.
    OperationToken,
}

/// One violation of the specification.
pub type Violation = remote::Violation<Rule>;

/// One call, recorded on its arrival.
pub type Call = remote::Call<Route, CallDetails>;

/// The details of a call that only calls of a broker have.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CallDetails {
    /// The id of the instance, decoded.
    pub instance: Option<String>,
    /// The id of the binding, decoded.
    pub binding: Option<String>,
    /// `X-Broker-API-Version`.
    pub api_version: Option<String>,
    /// `X-Broker-API-Request-Identity`.
    pub request_identity: Option<String>,
    /// `X-Broker-API-Originating-Identity` if it is well-formed.
    pub originating_identity: Option<OriginatingIdentity>,
}

/// One binding that exists at the broker. `Debug` shows the names of parameters and credentials only.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Binding {
    /// The id that the client chose.
    pub id: Uuid,
    /// The instance that it belongs to.
    pub instance: String,
    /// 1 for the first binding of this broker, 2 for the next one.
    pub number: u64,
    /// The binding that this one replaces.
    pub predecessor: Option<Uuid>,
    /// The context of the request.
    pub context: Map<String, Value>,
    /// The parameters of the request.
    pub parameters: Map<String, Value>,
    /// The credentials that the broker returned.
    pub credentials: Map<String, Value>,
    /// Its expiry, and the time by which it should be replaced.
    pub metadata: BindingMetadata,
    /// Whether it is left over from a failed bind: it can't be read, and only an unbind removes it.
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
