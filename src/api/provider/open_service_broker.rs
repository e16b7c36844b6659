//! An Open Service Broker, and the login to it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    reference::{SecretLogin, SecretRef},
    rules,
};

/// An Open Service Broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenServiceBrokerSpec {
    /// The broker's base URL, without `/v2`. A query, such as `?tenant=a`, is sent with each call. The operator never
    /// shows it in logs or messages, but users who may read the provider see it: put a password into `auth`.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::broker_url())]
    pub url: String,

    /// The version of the Open Service Broker API that the operator sends as `X-Broker-API-Version`: `2.` and a number.
    /// Set it if the broker answers 412, which means that it supports another version. Default: `2.17`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 5))]
    #[x_kube(validation = Rule::new("self.matches('^2[.](0|[1-9][0-9]{0,2})$')")
        .message("write a version of the Open Service Broker API such as `2.13`"))]
    pub api_version: Option<String>,

    /// Sent to the broker as `bind_resource` with each key that the operator creates. Default: not sent. A key keeps
    /// the values that it was created with: a change applies to the next keys and replaces none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_resource: Option<BindResource>,

    /// The login: at most one of `basic`, `bearer` and `clientCredentials`. Default: no login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<BrokerAuth>,
}

/// The application or client that uses the keys, for brokers that require one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.appGuid) || has(self.credentialClientId)").message(
    "write `appGuid`, `credentialClientId` or both; leave `bindResource` out for a broker that demands neither"
))]
#[serde(rename_all = "camelCase")]
pub struct BindResource {
    /// Id of an application, sent as `app_guid`: letters, digits, `-`, `_` and `.`. Every key of the provider has the
    /// same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[-._A-Za-z0-9]+$')")
        .message("write the id of an application: letters, digits, `-`, `_` and `.`"))]
    pub app_guid: Option<String>,

    /// Id of a UAA client, sent as `credential_client_id`. Cloud Foundry sends it for its service keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::one_line())]
    pub credential_client_id: Option<String>,
}

/// The login to an Open Service Broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::at_most_one(
    &["basic", "bearer", "clientCredentials"],
    "write at most one of `basic`, `bearer` and `clientCredentials`; leave `auth` out for a broker without login"
))]
#[serde(rename_all = "camelCase")]
pub struct BrokerAuth {
    /// HTTP Basic authentication. The Secret has the entries `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<SecretLogin>,

    /// A bearer token, sent unchanged. The Secret has the entry `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretLogin>,

    /// OAuth 2.0 client credentials: the operator gets a token from a token server and sends it to the broker. One
    /// token serves all keys. The operator renews it before it expires, and when the broker refuses it. The Secret has
    /// the entries `clientId` and `clientSecret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_credentials: Option<BrokerClientCredentials>,
}

/// OAuth 2.0 client credentials for an Open Service Broker (RFC 6749, section 4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerClientCredentials {
    /// URL of the token endpoint. The provider's `tls` and `limits` also apply to it.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = rules::base_url())]
    pub token_url: String,

    /// The Secret with the entries `clientId` and `clientSecret`, which are sent by HTTP Basic authentication, each
    /// form-encoded as RFC 6749 requires (section 2.3.1). For a KeyProvider it is in the same namespace; for a
    /// ClusterKeyProvider in the operator's (`--cluster-resource-namespace`).
    pub secret_ref: SecretRef,

    /// Scopes to request. Default: none, and the token server grants its own default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(scope, !scope.matches('[[:space:][:cntrl:]]'))")
            .message("write each scope as an item of its own, without spaces")
    )]
    pub scopes: Vec<String>,
}
