//! Creates, reads, revokes and polls keys at one broker.

use std::fmt;

use reqwest::{Method, StatusCode};
use uuid::Uuid;

use super::{
    catalog::CatalogPlan,
    classify::BrokerCall,
    config::{BindResourceObject, BrokerConfig},
    instances::{Existing, InstancePlans},
    paths,
    session::{BrokerApi, BrokerSession, request_catalog},
    target::{BrokerTarget, PlanRef},
    wire::{self, BindBody, PlatformContext},
};
use crate::backend::{
    BackendError, Bound, ErrorClass, Fetched, InstanceRef, KeyRequest, PlanView, Progress, RemoteOperation,
    Unbound,
    exchange::{Exchange, RemoteApi, with_json},
    http::{HttpClient, Response, without_query},
};

/// One Open Service Broker, logged in.
pub(crate) struct Broker {
    pub(in crate::backend) http: HttpClient,
    pub(super) session: BrokerSession,
    bind_resource: Option<BindResourceObject>,
    plans: InstancePlans,
}

impl Broker {
    /// Prepares the way to a broker, and asks it nothing yet.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`], where address, login or certificates can't be used.
    pub(crate) fn new(config: &BrokerConfig) -> Result<Self, BackendError> {
        let http = HttpClient::new(&config.http)?;
        Ok(Self {
            session: BrokerSession::new(config, &http)?,
            http,
            bind_resource: config.bind_resource.clone(),
            plans: InstancePlans::in_bytes(config.http.cached),
        })
    }

    const fn api(&self) -> BrokerApi<'_> {
        RemoteApi { http: &self.http, session: &self.session }
    }

    /// Asks for the catalog: whether the broker can be reached with this login. What it answers is kept.
    ///
    /// # Errors
    /// Whatever keeps a key from being made here.
    pub(crate) async fn check(&self) -> Result<(), BackendError> {
        self.session.catalog.refresh(|| request_catalog(self.api())).await
    }

    /// The flaws of the last catalog, in words.
    pub(in crate::backend) fn shortcomings(&self) -> Option<String> {
        self.session.catalog.latest()?.shortcomings()
    }

    /// Whether keys can be made for this instance: it is named in a way that can be asked for, and the catalog has a
    /// plan of keys for it.
    ///
    /// # Errors
    /// What is wrong with it, or why the catalog is not known.
    pub(crate) async fn check_instance(&self, instance: &InstanceRef) -> Result<(), BackendError> {
        self.plans.plan_of_keys(self.api(), &BrokerTarget::from_instance(instance)?).await.map(drop)
    }

    /// Whether the plan of this instance is known, and has keys.
    pub(crate) fn knows_instance(&self, instance: &InstanceRef) -> bool {
        BrokerTarget::from_instance(instance)
            .is_ok_and(|target| self.plans.known_plan(self.api(), &target).is_some_and(|plan| plan.bindable))
    }

    /// The ids of the plan of this instance, as far as they are known.
    pub(crate) fn plan_view(&self, instance: &InstanceRef) -> PlanView {
        let known = BrokerTarget::from_instance(instance)
            .ok()
            .and_then(|target| self.plans.known_plan(self.api(), &target));
        known.map_or(PlanView::Unknown, |plan| PlanView::Known(plan.ids()))
    }

    /// Makes the key, or gets it again where the same request made it before (spec: "Creating a Service Binding").
    ///
    /// # Errors
    /// [`ErrorClass::OrphanPossible`] where the spec's table asks for orphan mitigation.
    pub(crate) async fn bind(&self, request: &KeyRequest) -> Result<Bound, BackendError> {
        let target = BrokerTarget::from_instance(&request.instance)?;
        let plan = self.plans.plan_of_keys(self.api(), &target).await?;
        // Ids that are not noted would be lost in a crash, and the key could not be revoked.
        if request.plan_ids.as_ref().is_some_and(|noted| *noted != plan.ids()) {
            let what = "bind failed: the catalog changed; retrying with the new ids of the plan";
            return Err(BackendError::new(ErrorClass::Transient, what));
        }
        let mut exchange = self.api().for_key(BrokerCall::Bind, request);
        let path = binding_path(&target, request);
        // The credentials of a key that is created in the background come with a fetch: without one they would be lost.
        let accepts_incomplete = if plan.retrievable { "true" } else { "false" };
        let named = request.predecessor.filter(|_| plan.rotatable);
        let predecessor_binding_id = named.map(|predecessor| predecessor.binding_id());
        let body = self.bind_body(&plan, request, predecessor_binding_id);
        let mut response = put(&mut exchange, &path, accepts_incomplete, &body).await?;
        // The broker may have lost the predecessor, which is no reason to go without a key. What was refused did nothing.
        if response.status == StatusCode::BAD_REQUEST && named.is_some() {
            let alone = BindBody { predecessor_binding_id: None, ..body };
            response = put(&mut exchange, &path, accepts_incomplete, &alone).await?;
        }
        let bound = match response.status {
            StatusCode::OK | StatusCode::CREATED => {
                exchange.issued_key(&response, request.identity.binding_id()).map(Bound::Issued)
            }
            StatusCode::ACCEPTED if plan.retrievable => {
                exchange.accepted(&response, plan.longest_operation).map(Bound::Accepted)
            }
            StatusCode::BAD_REQUEST if self.plans.has_moved(self.api(), &target, &plan.ids()).await => {
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
    pub(crate) async fn fetch(&self, request: &KeyRequest) -> Result<Fetched, BackendError> {
        let target = BrokerTarget::from_instance(&request.instance)?;
        let (ids, retrievable) = self.plans.readable(self.api(), &target, request.plan_ids.as_ref()).await?;
        if !retrievable {
            return Ok(Fetched::NotRetrievable);
        }
        let mut exchange = self.api().for_key(BrokerCall::Fetch, request);
        let query = [("service_id", ids.service_id.as_str()), ("plan_id", &ids.plan_id)];
        let response = exchange.ask(Method::GET, &binding_path(&target, request), &query).await?;
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
    pub(crate) async fn repeat(&self, request: &KeyRequest) -> Result<Fetched, BackendError> {
        let target = BrokerTarget::from_instance(&request.instance)?;
        let plan = self.plans.plan_of_keys(self.api(), &target).await?;
        if request.plan_ids.as_ref().is_some_and(|noted| *noted != plan.ids()) {
            return Ok(Fetched::NotRetrievable);
        }
        let mut exchange = self.api().for_key(BrokerCall::Bind, request);
        let body = self.bind_body(&plan, request, None);
        let response = put(&mut exchange, &binding_path(&target, request), "false", &body).await?;
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
    pub(crate) async fn unbind(&self, request: &KeyRequest) -> Result<Unbound, BackendError> {
        let target = BrokerTarget::from_instance(&request.instance)?;
        let noted = request.plan_ids.as_ref();
        let Some(Existing { place, longest_operation }) =
            self.plans.existing(self.api(), &target, noted).await?
        else {
            return Ok(Unbound::Absent);
        };
        let mut exchange = self.api().for_key(BrokerCall::Unbind, request);
        let path = binding_path(&target, request);
        let mut response = delete(&mut exchange, &path, &place).await?;
        // Some brokers know a key by the present plan of its instance. A request that was refused did nothing.
        if response.status == StatusCode::BAD_REQUEST {
            for (other, is_certain) in self.plans.other_places(self.api(), &target, &place).await {
                let answer = delete(&mut exchange, &path, &other).await?;
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
    pub(crate) async fn poll(
        &self,
        request: &KeyRequest,
        work: RemoteOperation,
        token: Option<&str>,
    ) -> Result<Progress, BackendError> {
        let target = BrokerTarget::from_instance(&request.instance)?;
        let noted = request.plan_ids.as_ref();
        let Some(Existing { place, .. }) = self.plans.existing(self.api(), &target, noted).await? else {
            let said = "the instance is gone".to_owned();
            return Ok(if work == RemoteOperation::Unbind {
                Progress::Succeeded
            } else {
                Progress::Failed { said, leaves_orphan: true }
            });
        };
        let mut exchange = self.api().for_key(BrokerCall::LastOperation, request);
        let path = paths::last_operation(&binding_path(&target, request));
        let plan = [("service_id", place.offering.as_str()), ("plan_id", &place.plan)];
        let query: Vec<_> = plan.into_iter().chain(token.map(|token| ("operation", token))).collect();
        let response = exchange.ask(Method::GET, &path, &query).await?;
        match response.status {
            StatusCode::OK => exchange.progress(&response).await,
            StatusCode::GONE if work == RemoteOperation::Unbind => Ok(Progress::Succeeded),
            status
                if status == StatusCode::GONE
                    || is_from_a_broker(&response) && status == StatusCode::NOT_FOUND =>
            {
                let said = "the broker does not have this binding".to_owned();
                Ok(Progress::Failed { said, leaves_orphan: true })
            }
            _ => Err(exchange.refused(&response).await),
        }
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
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("url", &without_query(&self.session.base))
            .field("http", &self.http)
            .field("redactor", &self.session.redactor)
            .finish_non_exhaustive()
    }
}

/// Whether the broker said this, and not a gateway in front of it: gateways answer 404 with a web page or a text.
fn is_from_a_broker(response: &Response) -> bool {
    response.body().is_ok_and(wire::is_object)
}

fn binding_path(target: &BrokerTarget<'_>, request: &KeyRequest) -> String {
    paths::binding(target.instance_id, request.identity.binding_id())
}

async fn put(
    exchange: &mut Exchange<'_, BrokerSession>,
    path: &str,
    accepts_incomplete: &str,
    body: &BindBody<'_>,
) -> Result<Response, BackendError> {
    let query = [("accepts_incomplete", accepts_incomplete)];
    let request = exchange.request(Method::PUT, path, &query).await?;
    exchange.send(with_json(request, body)?).await
}

async fn delete(
    exchange: &mut Exchange<'_, BrokerSession>,
    path: &str,
    place: &PlanRef,
) -> Result<Response, BackendError> {
    let query = [("service_id", &*place.offering), ("plan_id", &*place.plan), ("accepts_incomplete", "true")];
    exchange.ask(Method::DELETE, path, &query).await
}
