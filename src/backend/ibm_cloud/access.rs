//! The identity that a key acts as: an existing service ID, or one that the operator creates for the key. The latter
//! has a policy that permits only what its ServiceKey requests.
//!
//! A service ID has the name of its key, so the operator finds it again if no answer arrived. The operator creates it
//! and its policy before the key, and deletes them after the key: without its service ID, a key has credentials that do
//! not work.

use std::time::Duration;

use reqwest::{Method, StatusCode};

use super::{
    attempts::Attempts,
    classify::IbmCloudCall,
    instances::ResourceInstances,
    roles::RolesOfServices,
    session::IbmCloudApi,
    wire::{self, CreatePolicy, CreateServiceId, Policies, ResourceInstance, ServiceId, ServiceIds},
};
use crate::backend::{
    AccessGrant, BackendError, ErrorClass, KeyRequest, ServiceIdAccess, bounded::AtMost, http::segment,
};

/// With a slash at the end, as IBM's own clients write it.
const SERVICE_IDS: &str = "/v1/serviceids/";
const POLICIES: &str = "/v1/policies";
/// More service IDs than any key has.
const PAGE: &str = "100";

/// The parameter of a key that names its service ID.
pub(super) const SERVICE_ID: &str = "serviceid_crn";

/// The service IDs that are created for keys.
pub(super) struct OwnServiceIds {
    attempts: Attempts,
}

impl OwnServiceIds {
    /// `settling`: how long IBM Cloud may not show a service ID after its creation.
    pub(super) fn new(settling: Duration) -> Self {
        Self { attempts: Attempts::new(settling) }
    }

    /// The number of recorded attempts.
    pub(super) fn len(&self) -> usize {
        self.attempts.len()
    }

    /// The CRN of the service ID for the key, or `None` if the ServiceKey leaves that to IBM Cloud. A service ID of the
    /// key's own is created here with its policy, unless it exists.
    ///
    /// # Errors
    /// [`ErrorClass::Unsure`] if it may have been created, and any failure that prevents its creation.
    pub(super) async fn service_id(
        &self,
        api: IbmCloudApi<'_>,
        roles_of_services: &RolesOfServices,
        keys: &Attempts,
        request: &KeyRequest,
        instance: &ResourceInstance,
    ) -> Result<Option<String>, BackendError> {
        let Some(access) = &request.access else { return Ok(None) };
        if request.parameters.expose().contains_key(SERVICE_ID) {
            let message = format!(
                "`parameters` and `ibmCloud.access` both set `{SERVICE_ID}`; remove it from `parameters`"
            );
            return Err(BackendError::new(ErrorClass::Rejected, message));
        }
        let grant = match access {
            ServiceIdAccess::Existing(crn) => return Ok(Some(crn.clone())),
            ServiceIdAccess::Own(grant) => grant,
        };
        let mut roles = Vec::with_capacity(grant.roles.len());
        for role in &grant.roles {
            roles.push(roles_of_services.role(api, role, "ibmCloud.access.roles", instance).await?);
        }
        let service_id = self.own_service_id(api, keys, request, &instance.account_id).await?;
        allow(api, request, &service_id, &roles, grant, instance).await?;
        Ok(Some(service_id.crn))
    }

    async fn own_service_id(
        &self,
        api: IbmCloudApi<'_>,
        keys: &Attempts,
        request: &KeyRequest,
        account: &str,
    ) -> Result<ServiceId, BackendError> {
        let found = service_ids_named(api, account, &request.name, Some(request)).await?;
        if let Some(found) = found.into_iter().next() {
            self.attempts.end(request.identity);
            return Ok(found);
        }
        if self.attempts.may_appear_later(request.identity) {
            return Err(keys.not_shown_yet("bind", request));
        }
        let description = format!("For the ServiceKey {}/{}", request.owner.namespace, request.owner.name);
        let body = CreateServiceId { account_id: account, name: &request.name, description: &description };
        let mut exchange = api.for_key(IbmCloudCall::CreateServiceId, request);
        let attempt = async {
            let response = exchange.send_json(Method::POST, SERVICE_IDS, &body).await?;
            match response.status {
                StatusCode::CREATED | StatusCode::OK => exchange.read(&response, wire::read),
                _ => Err(exchange.refused(&response).await),
            }
        };
        self.attempts.make(request, attempt).await
    }

    /// Deletes the service ID that was created for a key. The key is gone already.
    ///
    /// # Errors
    /// Anything but the confirmation that the service ID is gone.
    pub(super) async fn withdraw_access(
        &self,
        api: IbmCloudApi<'_>,
        instances: &ResourceInstances,
        keys: &Attempts,
        request: &KeyRequest,
        names: &[String],
    ) -> Result<(), BackendError> {
        let Some(ServiceIdAccess::Own(_)) = request.access else { return Ok(()) };
        let account = instances.account(api, request).await?;
        let mut deleted = 0;
        for name in names {
            deleted += delete_service_ids(api, &account, name, Some(request)).await?;
        }
        if deleted == 0 && self.attempts.may_appear_later(request.identity) {
            return Err(keys.not_shown_yet("unbind", request));
        }
        self.attempts.end(request.identity);
        Ok(())
    }
}

/// Gives the service ID the roles on the instance, and on nothing else.
async fn allow(
    api: IbmCloudApi<'_>,
    request: &KeyRequest,
    service_id: &ServiceId,
    roles: &[String],
    grant: &AccessGrant,
    instance: &ResourceInstance,
) -> Result<(), BackendError> {
    let of_the_instance = [
        ("accountId", instance.account_id.as_str()),
        ("serviceName", wire::service(&instance.crn)),
        ("serviceInstance", &instance.guid),
    ];
    let further = grant.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let body = CreatePolicy::access(&service_id.iam_id, roles, of_the_instance.into_iter().chain(further));
    let mut exchange = api.for_key(IbmCloudCall::CreatePolicy, request);
    let response = exchange.send_json(Method::POST, POLICIES, &body).await?;
    match response.status {
        // A conflict means that an earlier attempt created the same policy.
        StatusCode::CREATED | StatusCode::OK | StatusCode::CONFLICT => Ok(()),
        _ => Err(exchange.refused(&response).await),
    }
}

/// Deletes the service IDs with this name and their policies. Returns how many there were.
///
/// # Errors
/// Anything but the confirmation that all are gone.
pub(super) async fn delete_service_ids(
    api: IbmCloudApi<'_>,
    account: &str,
    name: &str,
    request: Option<&KeyRequest>,
) -> Result<usize, BackendError> {
    let found = service_ids_named(api, account, name, request).await?;
    for service_id in &found {
        for policy in policies_of(api, account, service_id, request).await?.policies.0 {
            delete_at_iam(
                api,
                IbmCloudCall::DeletePolicy,
                &format!("{POLICIES}/{}", segment(&policy.id)),
                request,
            )
            .await?;
        }
        let path = format!("{SERVICE_IDS}{}", segment(&service_id.id));
        delete_at_iam(api, IbmCloudCall::DeleteServiceId, &path, request).await?;
    }
    Ok(found.len())
}

async fn service_ids_named(
    api: IbmCloudApi<'_>,
    account: &str,
    name: &str,
    request: Option<&KeyRequest>,
) -> Result<Vec<ServiceId>, BackendError> {
    let query = [("account_id", account), ("name", name), ("pagesize", PAGE)];
    let ServiceIds { serviceids: AtMost(mut serviceids) } =
        ask_iam(api, IbmCloudCall::ServiceIds, SERVICE_IDS, &query, request).await?;
    serviceids.retain(|service_id| service_id.name == name);
    Ok(serviceids)
}

async fn policies_of(
    api: IbmCloudApi<'_>,
    account: &str,
    service_id: &ServiceId,
    request: Option<&KeyRequest>,
) -> Result<Policies, BackendError> {
    let query = [("account_id", account), ("iam_id", &service_id.iam_id)];
    ask_iam(api, IbmCloudCall::Policies, POLICIES, &query, request).await
}

async fn ask_iam<T: serde::de::DeserializeOwned>(
    api: IbmCloudApi<'_>,
    call: IbmCloudCall,
    path: &str,
    query: &[(&str, &str)],
    request: Option<&KeyRequest>,
) -> Result<T, BackendError> {
    let mut exchange = api.exchange(call, request);
    let response = exchange.ask(Method::GET, path, query).await?;
    match response.status {
        StatusCode::OK => exchange.read(&response, wire::read),
        _ => Err(exchange.refused(&response).await),
    }
}

async fn delete_at_iam(
    api: IbmCloudApi<'_>,
    call: IbmCloudCall,
    path: &str,
    request: Option<&KeyRequest>,
) -> Result<(), BackendError> {
    let mut exchange = api.exchange(call, request);
    let response = exchange.ask(Method::DELETE, path, &[]).await?;
    match response.status {
        StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND | StatusCode::GONE => Ok(()),
        _ => Err(exchange.refused(&response).await),
    }
}
