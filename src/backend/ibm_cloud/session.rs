//! The two hosts of one account, and the token that is sent to both.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use reqwest::{Method, StatusCode};
use url::Url;

use super::{
    classify::IbmCloudCall,
    config::{IbmCloudLogin, Profile},
    hosts,
    wire::{self, INSTANCES, MOST_PER_PAGE, ResourceInstance},
};
use crate::backend::{
    AddressPolicy, BackendError, KeyRequest,
    bounded::each,
    exchange::{Authorization, RemoteApi, Session, address},
    http::{HttpClient, HttpFailure, Redactor, Request, Response, base_url},
    token::{IamLogin, Token, Tokens},
};

/// Access to the APIs of one account.
pub(super) type IbmCloudApi<'a> = RemoteApi<'a, IbmCloudSession>;

/// The addresses and the login of one account.
pub(super) struct IbmCloudSession {
    iam: Url,
    resource_controller: Url,
    tokens: Arc<Tokens>,
}

impl IbmCloudSession {
    /// # Errors
    /// [`ErrorClass::Rejected`](crate::backend::ErrorClass::Rejected) if an address may not be called, or if no trusted
    /// profile may be used there.
    pub(super) fn new(
        iam_url: &Url,
        resource_controller_url: &Url,
        auth: &IbmCloudLogin,
        http: &HttpClient,
        policy: &AddressPolicy,
    ) -> Result<Self, BackendError> {
        if let IbmCloudLogin::TrustedProfile { .. } = auth {
            hosts::check(iam_url, resource_controller_url, policy)?;
        }
        let login = match auth {
            IbmCloudLogin::ApiKey { api_key } => IamLogin::ApiKey(api_key),
            IbmCloudLogin::TrustedProfile { profile, token_file } => IamLogin::TrustedProfile {
                profile: match profile {
                    Profile::Name(name) => ("profile_name", name),
                    Profile::Id(id) => ("profile_id", id),
                },
                token_file: token_file.clone(),
            },
        };
        Ok(Self {
            iam: base_url(http, "iamUrl", iam_url)?,
            resource_controller: base_url(http, "resourceControllerUrl", resource_controller_url)?,
            tokens: Arc::new(Tokens::of_iam(iam_url, login, http)?),
        })
    }

    /// The URL of a path, at the host of the call.
    pub(super) fn address(&self, call: IbmCloudCall, path: &str, query: &[(&str, &str)]) -> Url {
        address(self.base_of(call), path, query)
    }

    const fn base_of(&self, call: IbmCloudCall) -> &Url {
        if call.is_at_iam() { &self.iam } else { &self.resource_controller }
    }
}

impl Session for IbmCloudSession {
    type Dialect = IbmCloudCall;

    async fn base(&self, _http: &HttpClient, call: IbmCloudCall) -> Result<Url, BackendError> {
        Ok(self.base_of(call).clone())
    }

    async fn authorize(&self, _http: &HttpClient) -> Result<Authorization, BackendError> {
        Ok(Authorization::Tokens(Arc::clone(&self.tokens)))
    }

    fn prepare(
        &self,
        call: IbmCloudCall,
        _of: Option<&KeyRequest>,
        request: Request,
    ) -> Result<Request, HttpFailure> {
        Ok(if call.is_at_iam() { request.for_token_server() } else { request })
    }

    /// IAM proves its identity with a token, and the Resource Controller with a page of instances.
    fn prove<'a>(
        &'a self,
        http: &'a HttpClient,
        call: IbmCloudCall,
    ) -> BoxFuture<'a, Result<Option<Arc<Token>>, BackendError>> {
        Box::pin(async move {
            if call.is_at_iam() {
                return self.tokens.renewed(http).await.map(Some);
            }
            check(RemoteApi { http, session: self }).await.map(|()| None)
        })
    }

    fn redactor(&self) -> Redactor {
        self.tokens.redactor()
    }
}

/// Checks whether IAM knows the login, and whether the Resource Controller accepts it.
///
/// # Errors
/// Failures of the call.
pub(super) async fn check(api: IbmCloudApi<'_>) -> Result<(), BackendError> {
    let mut exchange = api.for_no_key(IbmCloudCall::Instances);
    let request = exchange.request(Method::GET, INSTANCES, &[("limit", "1")]).await?;
    let response = exchange.send(request.proving(is_page)).await?;
    if response.status == StatusCode::OK { Ok(()) } else { Err(exchange.refused(&response).await) }
}

/// Whether this is a page of instances, which only the Resource Controller returns.
fn is_page(response: &Response) -> bool {
    let is_page = |body| {
        let page: Result<wire::ResourcePage<'_>, _> = wire::read(body);
        page.is_ok_and(|page| each(page.resources, MOST_PER_PAGE, |_: ResourceInstance| {}).is_ok())
    };
    response.status == StatusCode::OK && response.body().is_ok_and(is_page)
}

impl fmt::Debug for IbmCloudSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}
