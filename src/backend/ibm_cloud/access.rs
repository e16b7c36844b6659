//! Whom a key acts as: a service ID that is there already, or one that is made for the key, with a policy that lets it do
//! what its ServiceKey says and nothing else.
//!
//! A service ID bears the name of its key, by which it is found again after a lost answer. It and its policy are made
//! before the key, and deleted after it: one that is deleted under a living key leaves credentials that do not work.

use reqwest::{Method, StatusCode};

use super::{
    call::Exchange,
    classify::IbmCloudCall,
    cloud::IbmCloud,
    wire::{self, CreatePolicy, CreateServiceId, Policies, ResourceInstance, ServiceId, ServiceIds},
};
use crate::backend::{
    AccessGrant, BackendError, ErrorClass, KeyRequest, ServiceIdAccess, bounded::AtMost, http::segment,
};

/// As IBM's own clients write it.
const SERVICE_IDS: &str = "/v1/serviceids/";
const POLICIES: &str = "/v1/policies";
/// More service IDs than any key has.
const PAGE: &str = "100";

/// The parameter of a key that names its service ID.
pub(super) const SERVICE_ID: &str = "serviceid_crn";

/// Service IDs, and what of them can be deleted.
impl IbmCloud {
    /// The CRN of the service ID that the key is to act as, where it does not matter to IBM Cloud alone. One that is made
    /// for the key is made now, with its policy, unless it is there.
    ///
    /// # Errors
    /// [`ErrorClass::Unsure`] where it may or may not have been made, and what keeps it from being made.
    pub(super) async fn service_id(
        &self,
        request: &KeyRequest,
        instance: &ResourceInstance,
    ) -> Result<Option<String>, BackendError> {
        let Some(access) = &request.access else { return Ok(None) };
        if request.parameters.expose().contains_key(SERVICE_ID) {
            let message = format!(
                "`parameters` hold `{SERVICE_ID}`, and so does `ibmCloud.access`: take it out of them"
            );
            return Err(BackendError::new(ErrorClass::Rejected, message));
        }
        let grant = match access {
            ServiceIdAccess::Existing(crn) => return Ok(Some(crn.clone())),
            ServiceIdAccess::Own(grant) => grant,
        };
        let mut roles = Vec::with_capacity(grant.roles.len());
        for role in &grant.roles {
            roles.push(self.role(role, "ibmCloud.access.roles", instance).await?);
        }
        let service_id = self.own_service_id(request, &instance.account_id).await?;
        self.allow(request, &service_id, &roles, grant, instance).await?;
        Ok(Some(service_id.crn))
    }

    async fn own_service_id(&self, request: &KeyRequest, account: &str) -> Result<ServiceId, BackendError> {
        let found = self.service_ids_named(account, &request.name, Some(request)).await?;
        if let Some(found) = found.into_iter().next() {
            self.service_ids.end(request.identity);
            return Ok(found);
        }
        if self.service_ids.may_still_show(request.identity) {
            return Err(self.not_shown_yet("bind", request));
        }
        let description = format!("For the ServiceKey {}/{}", request.owner.namespace, request.owner.name);
        let body = CreateServiceId { account_id: account, name: &request.name, description: &description };
        let mut exchange = Exchange::for_key(self, IbmCloudCall::CreateServiceId, request);
        let attempt = async {
            let response = exchange.send_json(Method::POST, SERVICE_IDS, &body).await?;
            match response.status {
                StatusCode::CREATED | StatusCode::OK => exchange.read(&response),
                _ => Err(exchange.refused(&response).await),
            }
        };
        self.service_ids.make(request, attempt).await
    }

    /// Lets the service ID have the roles on the instance, and nowhere else.
    async fn allow(
        &self,
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
        let body =
            CreatePolicy::access(&service_id.iam_id, roles, of_the_instance.into_iter().chain(further));
        let mut exchange = Exchange::for_key(self, IbmCloudCall::CreatePolicy, request);
        let response = exchange.send_json(Method::POST, POLICIES, &body).await?;
        match response.status {
            // The conflict is with itself, as an earlier attempt made it.
            StatusCode::CREATED | StatusCode::OK | StatusCode::CONFLICT => Ok(()),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Deletes what was made for a key, which is gone by now.
    ///
    /// # Errors
    /// Anything but the confirmation that it is gone.
    pub(super) async fn withdraw_access(&self, request: &KeyRequest) -> Result<(), BackendError> {
        let Some(ServiceIdAccess::Own(_)) = request.access else { return Ok(()) };
        let account = self.account(request).await?;
        let mut deleted = 0;
        for name in self.names(request) {
            deleted += self.delete_service_ids(&account, &name, Some(request)).await?;
        }
        if deleted == 0 && self.service_ids.may_still_show(request.identity) {
            return Err(self.not_shown_yet("unbind", request));
        }
        self.service_ids.end(request.identity);
        Ok(())
    }

    /// Deletes the service IDs of this name with their policies; says how many there were.
    ///
    /// # Errors
    /// Anything but the confirmation that all are gone.
    pub(super) async fn delete_service_ids(
        &self,
        account: &str,
        name: &str,
        request: Option<&KeyRequest>,
    ) -> Result<usize, BackendError> {
        let found = self.service_ids_named(account, name, request).await?;
        for service_id in &found {
            for policy in self.policies_of(account, service_id, request).await?.policies.0 {
                self.delete_at_iam(
                    IbmCloudCall::DeletePolicy,
                    &format!("{POLICIES}/{}", segment(&policy.id)),
                    request,
                )
                .await?;
            }
            let path = format!("{SERVICE_IDS}{}", segment(&service_id.id));
            self.delete_at_iam(IbmCloudCall::DeleteServiceId, &path, request).await?;
        }
        Ok(found.len())
    }

    async fn service_ids_named(
        &self,
        account: &str,
        name: &str,
        request: Option<&KeyRequest>,
    ) -> Result<Vec<ServiceId>, BackendError> {
        let query = [("account_id", account), ("name", name), ("pagesize", PAGE)];
        let ServiceIds { serviceids: AtMost(mut serviceids) } =
            self.ask_iam(IbmCloudCall::ServiceIds, SERVICE_IDS, &query, request).await?;
        serviceids.retain(|service_id| service_id.name == name);
        Ok(serviceids)
    }

    async fn policies_of(
        &self,
        account: &str,
        service_id: &ServiceId,
        request: Option<&KeyRequest>,
    ) -> Result<Policies, BackendError> {
        let query = [("account_id", account), ("iam_id", &service_id.iam_id)];
        self.ask_iam(IbmCloudCall::Policies, POLICIES, &query, request).await
    }

    async fn ask_iam<T: serde::de::DeserializeOwned>(
        &self,
        call: IbmCloudCall,
        path: &str,
        query: &[(&str, &str)],
        request: Option<&KeyRequest>,
    ) -> Result<T, BackendError> {
        let mut exchange = Exchange::new(self, call, request);
        let response = exchange.ask(Method::GET, path, query).await?;
        match response.status {
            StatusCode::OK => exchange.read(&response),
            _ => Err(exchange.refused(&response).await),
        }
    }

    async fn delete_at_iam(
        &self,
        call: IbmCloudCall,
        path: &str,
        request: Option<&KeyRequest>,
    ) -> Result<(), BackendError> {
        let mut exchange = Exchange::new(self, call, request);
        let response = exchange.ask(Method::DELETE, path, &[]).await?;
        match response.status {
            StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND | StatusCode::GONE => Ok(()),
            _ => Err(exchange.refused(&response).await),
        }
    }
}
