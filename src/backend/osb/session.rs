//! The address, the login and the catalog of one broker.

use std::{borrow::Cow, sync::Arc};

use futures::future::BoxFuture;
use reqwest::{
    Method, StatusCode,
    header::{HeaderName, HeaderValue},
};
use serde_json::Value;
use url::Url;

use super::{
    catalog::{Catalog, CatalogCache},
    classify::BrokerCall,
    config::{ApiVersion, BrokerConfig},
    paths,
    wire::{self, BrokerRefusal},
};
use crate::backend::{
    BackendError, KeyRequest,
    exchange::{Authorization, Dialect, RemoteApi, Session, unsendable},
    http::{HttpClient, HttpFailure, Redactor, Request, base_url_with_query},
    token::Token,
};

const API_VERSION: HeaderName = HeaderName::from_static("x-broker-api-version");
const ORIGINATING_IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-originating-identity");
const REQUEST_IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-request-identity");

const TOKEN_REFUSED: &str =
    "the broker refuses the tokens of the token server; check `tokenUrl` and `scopes`";

/// In MiB. Large marketplaces describe thousands of plans, with pictures and schemas.
const LARGEST_CATALOG: usize = 16;

/// The query parameters that the operator sends. The broker's URL must not contain them.
const PARAMETERS: [&str; 4] = ["accepts_incomplete", "service_id", "plan_id", "operation"];

/// Access to the API of one broker.
pub(super) type BrokerApi<'a> = RemoteApi<'a, BrokerSession>;

/// The address, the login and the catalog of one broker.
pub(super) struct BrokerSession {
    pub(super) base: Url,
    api_version: (ApiVersion, HeaderValue),
    login: Authorization,
    pub(super) redactor: Redactor,
    pub(super) catalog: CatalogCache,
}

impl BrokerSession {
    /// # Errors
    /// [`ErrorClass::Rejected`](crate::backend::ErrorClass::Rejected) if the address or the login can't be used.
    pub(super) fn new(config: &BrokerConfig, http: &HttpClient) -> Result<Self, BackendError> {
        let base = base_url_with_query(http, "url", &config.url, &PARAMETERS)?;
        let (login, redactor) = match &config.auth {
            Some(auth) => auth.login(http)?,
            None => (Authorization::None, Redactor::default()),
        };
        Ok(Self {
            redactor: hide_query(redactor, &base),
            base,
            api_version: (config.api_version.clone(), config.api_version.header()?),
            login,
            catalog: CatalogCache::default(),
        })
    }
}

/// Requests the catalog from the broker.
///
/// # Errors
/// Failures of the call, and a catalog that can't be read or kept.
pub(super) async fn request_catalog(api: BrokerApi<'_>) -> Result<Catalog, BackendError> {
    let mut exchange = api.for_no_key(BrokerCall::Catalog);
    let request = exchange.request(Method::GET, paths::CATALOG, &[]).await?;
    let request = request.answered_in(LARGEST_CATALOG).proving(|response| {
        response.status == StatusCode::OK
            && response.body().is_ok_and(|body| Catalog::read(body).is_ok_and(|it| it.has_plans()))
    });
    let response = exchange.send(request).await?;
    if response.status != StatusCode::OK {
        return Err(exchange.refused(&response).await);
    }
    exchange.read(&response, Catalog::read)?.held(api.http.kept())
}

impl Session for BrokerSession {
    type Dialect = BrokerCall;

    async fn base(&self, _http: &HttpClient, _call: BrokerCall) -> Result<Url, BackendError> {
        Ok(self.base.clone())
    }

    async fn authorize(&self, _http: &HttpClient) -> Result<Authorization, BackendError> {
        Ok(self.login.clone())
    }

    fn prepare(
        &self,
        call: BrokerCall,
        of: Option<&KeyRequest>,
        request: Request,
    ) -> Result<Request, HttpFailure> {
        let request = request.header(API_VERSION, self.api_version.1.clone());
        let Some(KeyRequest { owner, cleans_up: false, .. }) = of else { return Ok(request) };
        let identity = HeaderValue::from_str(&wire::originating_identity(owner));
        Ok(request.header(ORIGINATING_IDENTITY, identity.map_err(|_| unsendable(call))?))
    }

    fn request_id_header() -> Option<HeaderName> {
        Some(REQUEST_IDENTITY)
    }

    /// A host proves with a catalog that it is a broker.
    fn prove<'a>(
        &'a self,
        http: &'a HttpClient,
        _call: BrokerCall,
    ) -> BoxFuture<'a, Result<Option<Arc<Token>>, BackendError>> {
        let api = RemoteApi { http, session: self };
        Box::pin(async move { self.catalog.refresh(|| request_catalog(api)).await.map(|()| None) })
    }

    fn advice(&self, call: BrokerCall, status: u16, refusal: &BrokerRefusal) -> Cow<'static, str> {
        match (&self.login, status) {
            (Authorization::Tokens(_), 401) => TOKEN_REFUSED.into(),
            (Authorization::None | Authorization::Header(_) | Authorization::Tokens(_), 412) => format!(
                "the broker does not support version {} of the Open Service Broker API; set \
                 `openServiceBroker.apiVersion` of the provider to one that it supports",
                self.api_version.0
            )
            .into(),
            (Authorization::None | Authorization::Header(_) | Authorization::Tokens(_), _) => {
                call.advice(status, refusal).into()
            }
        }
    }

    fn redactor(&self) -> Redactor {
        self.redactor.clone()
    }
}

/// The query of the broker's URL may contain a login.
fn hide_query(redactor: Redactor, base: &Url) -> Redactor {
    let Some(query) = base.query() else { return redactor };
    let values: Vec<_> = base.query_pairs().map(|(_, value)| Value::from(value.into_owned())).collect();
    redactor.and([query.to_owned().into()]).and_strings_of(&values)
}
