//! The calls themselves: check, bind, fetch, unbind, poll.

use std::fmt;

use reqwest::{Method, StatusCode, header::HeaderValue};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::{
    ApiVersion, BindResourceObject, BrokerConfig,
    call::Exchange,
    catalog::{Catalog, CatalogCache, CatalogPlan},
    classify::BrokerCall,
    instances::{InstanceCache, PlanRef},
    login::BrokerLogin,
    paths,
    target::{BrokerTarget, Existing},
    wire::{self, BindBody, PlatformContext},
};
use crate::backend::{
    BackendError, Bound, ErrorClass, Fetched, InstanceRef, KeyRequest, PlanView, Progress, RemoteOperation,
    Unbound,
    http::{HttpClient, Redactor, Request, Response, base_url_with_query, without_query},
};

/// In MiB. Large marketplaces describe thousands of plans, with pictures and schemas.
const LARGEST_CATALOG: usize = 16;

/// The parameters of this API's calls.
const PARAMETERS: [&str; 4] = ["accepts_incomplete", "service_id", "plan_id", "operation"];

/// One Open Service Broker, logged in.
pub struct Broker {
    pub(in crate::backend) http: HttpClient,
    pub(super) api_version: (ApiVersion, HeaderValue),
    bind_resource: Option<BindResourceObject>,
    pub(super) login: BrokerLogin,
    pub(super) redactor: Redactor,
    pub(super) catalog: CatalogCache,
    pub(super) instances: InstanceCache,
    pub(super) base: Url,
}

impl Broker {
    /// Prepares the way to a broker, and asks it nothing yet.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`], where address, login or certificates can't be used.
    pub fn new(config: &BrokerConfig) -> Result<Self, BackendError> {
        let http = HttpClient::new(&config.http)?;
        let base = base_url_with_query(&http, "url", &config.url, &PARAMETERS)?;
        let (login, redactor) = match &config.auth {
            Some(auth) => auth.login(&http)?,
            None => (BrokerLogin::None, Redactor::default()),
        };
        let redactor = hide_query(redactor, &base);
        Ok(Self {
            http,
            api_version: (config.api_version.clone(), config.api_version.header()?),
            bind_resource: config.bind_resource.clone(),
            login,
            redactor,
            base,
            catalog: CatalogCache::default(),
            instances: InstanceCache::in_bytes(config.http.cached),
        })
    }

    /// Asks for the catalog: whether the broker can be reached with this login. What it answers is kept.
    ///
    /// # Errors
    /// Whatever keeps a key from being made here.
    pub async fn check(&self) -> Result<(), BackendError> {
        self.catalog.refresh(|| self.request_catalog()).await
    }

    /// The flaws of the last catalog, in words.
    pub(in crate::backend) fn shortcomings(&self) -> Option<String> {
        self.catalog.latest()?.shortcomings()
    }

    /// Whether keys can be made for this instance: it is named in a way that can be asked for, and the catalog has a
    /// plan of keys for it.
    ///
    /// # Errors
    /// What is wrong with it, or why the catalog is not known.
    pub async fn check_instance(&self, instance: &InstanceRef) -> Result<(), BackendError> {
        self.plan_of_keys(&BrokerTarget::from_instance(instance)?).await.map(drop)
    }

    /// Whether the plan of this instance is known, and has keys.
    pub fn knows_instance(&self, instance: &InstanceRef) -> bool {
        BrokerTarget::from_instance(instance)
            .is_ok_and(|target| self.known_plan(&target).is_some_and(|plan| plan.bindable))
    }

    /// The ids of the plan of this instance, as far as they are known.
    pub fn plan_view(&self, instance: &InstanceRef) -> PlanView {
        let known = BrokerTarget::from_instance(instance).ok().and_then(|target| self.known_plan(&target));
        known.map_or(PlanView::Unknown, |plan| PlanView::Known(plan.ids()))
    }

    /// Makes the key, or gets it again where the same request made it before (spec: "Creating a Service Binding").
    ///
    /// # Errors
    /// [`ErrorClass::OrphanPossible`] where the spec's table asks for orphan mitigation.
    pub async fn bind(&self, request: &KeyRequest) -> Result<Bound, BackendError> {
        let target = BrokerTarget::from_instance(&request.instance)?;
        let plan = self.plan_of_keys(&target).await?;
        // Ids that are not noted would be lost in a crash, and the key could not be revoked.
        if request.plan_ids.as_ref().is_some_and(|noted| *noted != plan.ids()) {
            let what = "bind failed: the catalog changed; retrying with the new ids of the plan";
            return Err(BackendError::new(ErrorClass::Transient, what));
        }
        let mut exchange = Exchange::for_key(self, BrokerCall::Bind, request);
        let mut url = self.binding_url(&target, request);
        // The credentials of what is made in the background come with a fetch: where there is none they would be lost.
        url.query_pairs_mut()
            .append_pair("accepts_incomplete", if plan.retrievable { "true" } else { "false" });
        let named = request.predecessor.filter(|_| plan.rotatable);
        let predecessor_binding_id = named.map(|predecessor| predecessor.binding_id());
        let body = self.bind_body(&plan, request, predecessor_binding_id);
        let mut response = exchange.send(put(url.clone(), &body)?).await?;
        // The broker may have lost the predecessor, which is no reason to go without a key. What was refused did nothing.
        if response.status == StatusCode::BAD_REQUEST && named.is_some() {
            let alone = BindBody { predecessor_binding_id: None, ..body };
            response = exchange.send(put(url, &alone)?).await?;
        }
        let bound = match response.status {
            StatusCode::OK | StatusCode::CREATED => {
                exchange.issued_key(&response, request.identity.binding_id()).map(Bound::Issued)
            }
            StatusCode::ACCEPTED if plan.retrievable => {
                exchange.accepted(&response, plan.longest_operation).map(Bound::Accepted)
            }
            StatusCode::BAD_REQUEST if self.has_moved(&target, &plan.ids()).await => {
                let what = "bind failed: the instance was moved to another plan; retrying with that plan";
                Err(BackendError::new(ErrorClass::Transient, what))
            }
            _ => Err(exchange.refused(&response).await),
        };
        if !response.is_repeated {
            return bound;
        }
        // A broker may show credentials to the first request only, whose answer was lost.
        bound
            .map(|bound| Bound::Repeated(Box::new(bound)))
            .map_err(|error| BackendError { class: ErrorClass::OrphanPossible, ..error })
    }

    /// Reads the key again, where the offering allows it (spec: "Fetching a Service Binding").
    ///
    /// # Errors
    /// Failures of the call itself.
    pub async fn fetch(&self, request: &KeyRequest) -> Result<Fetched, BackendError> {
        let target = BrokerTarget::from_instance(&request.instance)?;
        let (ids, retrievable) = self.readable(&target, request.plan_ids.as_ref()).await?;
        if !retrievable {
            return Ok(Fetched::NotRetrievable);
        }
        let mut exchange = Exchange::for_key(self, BrokerCall::Fetch, request);
        let url = with_plan(self.binding_url(&target, request), &ids.service_id, &ids.plan_id);
        let response = exchange.send(Request::new(Method::GET, BrokerCall::Fetch.route(), url)).await?;
        match response.status {
            StatusCode::OK => match exchange.issued_key(&response, request.identity.binding_id()) {
                Ok(key) => Ok(Fetched::Found(key)),
                // The catalog promises more than the broker does: the next answer would be the same.
                Err(_) if response.body().is_ok_and(wire::lacks_credentials) => Ok(Fetched::NotRetrievable),
                Err(error) => Err(error),
            },
            StatusCode::GONE => Ok(Fetched::Absent),
            StatusCode::NOT_FOUND if is_from_a_broker(&response) => Ok(Fetched::Absent),
            StatusCode::NOT_IMPLEMENTED => Ok(Fetched::NotRetrievable),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Sends the bind of a key again, where its plan still has the ids that it was created with. The broker answers the same
    /// request with the same key (spec: "Creating a Service Binding", 200). Any other answer of a broker means that it does not show the
    /// credentials.
    ///
    /// # Errors
    /// [`ErrorClass::OrphanPossible`] where the answer is lost; failures of the login, of a gateway, and too many requests.
    pub async fn repeat(&self, request: &KeyRequest) -> Result<Fetched, BackendError> {
        let target = BrokerTarget::from_instance(&request.instance)?;
        let plan = self.plan_of_keys(&target).await?;
        if request.plan_ids.as_ref().is_some_and(|noted| *noted != plan.ids()) {
            return Ok(Fetched::NotRetrievable);
        }
        let mut exchange = Exchange::for_key(self, BrokerCall::Bind, request);
        let mut url = self.binding_url(&target, request);
        url.query_pairs_mut().append_pair("accepts_incomplete", "false");
        let body = self.bind_body(&plan, request, None);
        let response = exchange.send(put(url, &body)?).await?;
        if response.is_repeated {
            let what =
                "bind failed: the connection was cut, and the first of two requests may still take effect";
            return Err(BackendError::new(ErrorClass::OrphanPossible, what));
        }
        match response.status {
            StatusCode::OK | StatusCode::CREATED => {
                match exchange.issued_key(&response, request.identity.binding_id()) {
                    Ok(key) => Ok(Fetched::Found(key)),
                    Err(error) if matches!(error.class, ErrorClass::Unusable | ErrorClass::Withheld) => {
                        Ok(Fetched::NotRetrievable)
                    }
                    Err(error) => Err(error),
                }
            }
            // Brokers answer so to an id that they have already.
            StatusCode::ACCEPTED | StatusCode::INTERNAL_SERVER_ERROR => Ok(Fetched::NotRetrievable),
            _ => match exchange.refused(&response).await {
                error
                    if matches!(
                        error.class,
                        ErrorClass::Rejected | ErrorClass::Conflict | ErrorClass::Gone
                    ) =>
                {
                    Ok(Fetched::NotRetrievable)
                }
                error => Err(error),
            },
        }
    }

    /// Revokes the key (spec: "Deleting a Service Binding"). Only 200 and 410 confirm it, whatever their body says.
    ///
    /// # Errors
    /// Any other answer; the call must be made again then.
    pub async fn unbind(&self, request: &KeyRequest) -> Result<Unbound, BackendError> {
        let target = BrokerTarget::from_instance(&request.instance)?;
        let noted = request.plan_ids.as_ref();
        let Some(Existing { place, longest_operation }) = self.existing(&target, noted).await? else {
            return Ok(Unbound::Absent);
        };
        let mut exchange = Exchange::for_key(self, BrokerCall::Unbind, request);
        let to = |place: &PlanRef| {
            let mut url = with_plan(self.binding_url(&target, request), &place.offering, &place.plan);
            url.query_pairs_mut().append_pair("accepts_incomplete", "true");
            Request::new(Method::DELETE, BrokerCall::Unbind.route(), url)
        };
        let mut response = exchange.send(to(&place)).await?;
        // Some brokers know a key by the present plan of its instance. A request that was refused did nothing.
        if response.status == StatusCode::BAD_REQUEST {
            for (other, is_certain) in self.other_places(&target, &place).await {
                let answer = exchange.send(to(&other)).await?;
                // That a broker has no such key of a plan that was guessed says nothing of this one.
                let confirms = answer.status != StatusCode::GONE || is_certain;
                if answer.status != StatusCode::BAD_REQUEST && confirms {
                    response = answer;
                    break;
                }
            }
        }
        match response.status {
            StatusCode::OK => Ok(Unbound::Gone),
            StatusCode::GONE => Ok(Unbound::Absent),
            StatusCode::ACCEPTED => exchange.accepted(&response, longest_operation).map(Unbound::Accepted),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Asks how far the broker is (spec: "Polling Last Operation for Service Bindings"). A key that is gone is what an
    /// unbind is for. Where the broker does not know the key, it follows no work on it: the request is made again.
    ///
    /// # Errors
    /// Any answer that does not tell: the broker is to be asked again.
    pub async fn poll(
        &self,
        request: &KeyRequest,
        work: RemoteOperation,
        token: Option<&str>,
    ) -> Result<Progress, BackendError> {
        let target = BrokerTarget::from_instance(&request.instance)?;
        let noted = request.plan_ids.as_ref();
        let Some(Existing { place, .. }) = self.existing(&target, noted).await? else {
            let said = "the instance is gone".to_owned();
            return Ok(if work == RemoteOperation::Unbind {
                Progress::Succeeded
            } else {
                Progress::Failed { said, leaves_orphan: true }
            });
        };
        let mut exchange = Exchange::for_key(self, BrokerCall::LastOperation, request);
        let url = paths::last_operation(&self.binding_url(&target, request));
        let mut url = with_plan(url, &place.offering, &place.plan);
        if let Some(token) = token {
            url.query_pairs_mut().append_pair("operation", token);
        }
        let response =
            exchange.send(Request::new(Method::GET, BrokerCall::LastOperation.route(), url)).await?;
        match response.status {
            StatusCode::OK => exchange.progress(&response).await,
            StatusCode::GONE if work == RemoteOperation::Unbind => Ok(Progress::Succeeded),
            status
                if status == StatusCode::GONE
                    || is_from_a_broker(&response) && status == StatusCode::NOT_FOUND =>
            {
                let said = "the broker knows no such binding".to_owned();
                Ok(Progress::Failed { said, leaves_orphan: true })
            }
            _ => Err(exchange.refused(&response).await),
        }
    }

    pub(super) async fn request_catalog(&self) -> Result<Catalog, BackendError> {
        let mut exchange = Exchange::anonymous(self, BrokerCall::Catalog);
        let request = Request::new(Method::GET, BrokerCall::Catalog.route(), paths::catalog(&self.base))
            .answered_in(LARGEST_CATALOG)
            .proving(|response| {
                response.status == StatusCode::OK
                    && response.body().is_ok_and(|body| Catalog::read(body).is_ok_and(|it| it.has_plans()))
            });
        let response = exchange.send(request).await?;
        if response.status != StatusCode::OK {
            return Err(exchange.refused(&response).await);
        }
        let body = response.body().map_err(|failure| exchange.failed(failure))?;
        let catalog = Catalog::read(body).map_err(|what| exchange.malformed(&response, what))?;
        catalog.held(self.http.kept())
    }

    fn bind_body<'a>(
        &'a self,
        plan: &'a CatalogPlan,
        request: &'a KeyRequest,
        predecessor_binding_id: Option<Uuid>,
    ) -> BindBody<'a> {
        BindBody {
            service_id: &plan.service_id,
            plan_id: &plan.plan_id,
            context: PlatformContext::new(request),
            bind_resource: self.bind_resource.as_ref(),
            predecessor_binding_id,
            parameters: request.parameters.expose(),
        }
    }

    fn binding_url(&self, target: &BrokerTarget<'_>, request: &KeyRequest) -> Url {
        paths::binding(&self.base, target.instance_id, request.identity.binding_id())
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("url", &without_query(&self.base))
            .field("http", &self.http)
            .field("redactor", &self.redactor)
            .finish_non_exhaustive()
    }
}

/// Whether the broker said this, and not a gateway in front of it: gateways answer 404 with a web page or a text.
fn is_from_a_broker(response: &Response) -> bool {
    response.body().is_ok_and(wire::is_object)
}

/// The query of the broker's URL may hold a login.
fn hide_query(redactor: Redactor, base: &Url) -> Redactor {
    let Some(query) = base.query() else { return redactor };
    let values: Vec<_> = base.query_pairs().map(|(_, value)| Value::from(value.into_owned())).collect();
    redactor.and([query.to_owned().into()]).and_strings_of(&values)
}

fn put(url: Url, body: &BindBody<'_>) -> Result<Request, BackendError> {
    Request::new(Method::PUT, BrokerCall::Bind.route(), url)
        .json(body)
        .map_err(|_| BackendError::new(ErrorClass::Rejected, "`parameters` can't be sent as JSON"))
}

fn with_plan(mut url: Url, service_id: &str, plan_id: &str) -> Url {
    url.query_pairs_mut().append_pair("service_id", service_id).append_pair("plan_id", plan_id);
    url
}
