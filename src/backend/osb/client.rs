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
    /// Creates a client. It sends no request yet.
    ///
    /// # Errors
    /// [`ErrorClass::Rejected`] if the address, the login or the certificates can't be used.
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

    /// Checks by a request for the catalog whether the broker can be reached with this login. The catalog is cached.
    ///
    /// # Errors
    /// Any failure that prevents the creation of keys.
    pub(crate) async fn check(&self) -> Result<(), BackendError> {
        self.session.catalog.refresh(|| request_catalog(self.api())).await
    }

    /// Describes the flaws of the last catalog.
    pub(in crate::backend) fn shortcomings(&self) -> Option<String> {
        self.session.catalog.latest()?.shortcomings()
    }

    /// Checks whether keys can be created for this instance: its fields are valid, and the catalog has a plan with keys
    /// for it.
    ///
    /// # Errors
    /// The instance can't be used, or the catalog can't be read. The message says why.
    pub(crate) async fn check_instance(&self, instance: &InstanceRef) -> Result<(), BackendError> {
        self.plans.plan_of_keys(self.api(), &BrokerTarget::from_instance(instance)?).await.map(drop)
    }

    /// Whether the plan of this instance is cached and has keys.
    pub(crate) fn knows_instance(&self, instance: &InstanceRef) -> bool {
        BrokerTarget::from_instance(instance)
            .is_ok_and(|target| self.plans.known_plan(self.api(), &target).is_some_and(|plan| plan.bindable))
    }

    /// The ids of the plan of this instance, if they are cached.
    pub(crate) fn plan_view(&self, instance: &InstanceRef) -> PlanView {
        let known = BrokerTarget::from_instance(instance)
            .ok()
            .and_then(|target| self.plans.known_plan(self.api(), &target));
        known.map_or(PlanView::Unknown, |plan| PlanView::Known(plan.ids()))
    }

    /// Creates the key. If an earlier request with the same content created it, the broker returns that key (spec:
    /// "Creating a Service Binding").
    ///
    /// # Errors
    /// [`ErrorClass::OrphanPossible`] if the spec's table requires orphan mitigation.
    pub(crate) async fn bind(&self, request: &KeyRequest) -> Result<Bound, BackendError> {
        let target = BrokerTarget::from_instance(&request.instance)?;
        let plan = self.plans.plan_of_keys(self.api(), &target).await?;
        // The operator must note the ids before the bind: if a crash lost them, it could not revoke the key.
        if request.plan_ids.as_ref().is_some_and(|noted| *noted != plan.ids()) {
            let what = "bind failed: the catalog changed; retrying with the new ids of the plan";
            return Err(BackendError::new(ErrorClass::Transient, what));
        }
        let mut exchange = self.api().for_key(BrokerCall::Bind, request);
        let path = binding_path(&target, request);
        // The credentials of a key that is created in the background are read by a fetch. An offering without fetch
        // would lose them.
        let accepts_incomplete = if plan.retrievable { "true" } else { "false" };
        let named = request.predecessor.filter(|_| plan.rotatable);
        let predecessor_binding_id = named.map(|predecessor| predecessor.binding_id());
        let body = self.bind_body(&plan, request, predecessor_binding_id);
        let mut response = put(&mut exchange, &path, accepts_incomplete, &body).await?;
        // The broker may no longer have the predecessor. A key without one is better than no key, and the refused
        // request had no effect.
        if response.status == StatusCode::BAD_REQUEST && named.is_some() {
            let alone = BindBody { predecessor_binding_id: None, ..body };
            response = put(&mut exchange, &path, accepts_incomplete, &alone).await?;
        }
        let bound = match response.status {
            StatusCode::OK => {
                exchange.issued_key(&response, request.identity.binding_id()).map(Bound::Existing)
            }
            StatusCode::CREATED => {
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
        // The first request may have created the key, and the broker may return the credentials only in that lost
        // answer.
        bound
            .map(|bound| Bound::Repeated(Box::new(bound)))
            .map_err(|error| BackendError { class: ErrorClass::OrphanPossible, ..error })
    }

    /// Reads the credentials of the key again, if the offering allows it (spec: "Fetching a Service Binding").
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
                // The catalog promises more than the broker does. The next answer would be the same.
                Err(_) if response.body().is_ok_and(wire::lacks_credentials) => Ok(Fetched::NotRetrievable),
                Err(error) => Err(error),
            },
            StatusCode::GONE => Ok(Fetched::Absent),
            StatusCode::NOT_FOUND if is_from_a_broker(&response) => Ok(Fetched::Absent),
            StatusCode::NOT_IMPLEMENTED => Ok(Fetched::NotRetrievable),
            _ => Err(exchange.refused(&response).await),
        }
    }

    /// Sends the bind of an existing key again, if its plan still has the ids that the key was created with. The broker
    /// answers the same request with the same key (spec: "Creating a Service Binding", 200). Any other answer of a
    /// broker means that it does not show the credentials.
    ///
    /// # Errors
    /// [`ErrorClass::OrphanPossible`] if no answer arrived; also failures of the login or of a gateway, and too many
    /// requests.
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
            // Brokers answer with these statuses to an id that they already have.
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

    /// Revokes the key (spec: "Deleting a Service Binding"). Only 200 and 410 confirm that, whatever their body
    /// contains.
    ///
    /// # Errors
    /// Any other answer. The caller must repeat the call.
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
        // Some brokers know a key only by the current plan of its instance. The refused request had no effect.
        if response.status == StatusCode::BAD_REQUEST {
            for (other, is_certain) in self.plans.other_plans(self.api(), &target, &place).await {
                let answer = delete(&mut exchange, &path, &other).await?;
                // If the plan was guessed, a 410 does not prove that the key is gone.
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

    /// Requests the progress of an operation (spec: "Polling Last Operation for Service Bindings"). A 410 means that an
    /// unbind has succeeded. In all other cases, a broker that does not know the key does not work on it either, so the
    /// operator sends the request again.
    ///
    /// # Errors
    /// Any answer without a state. The caller must poll again.
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

/// Whether the broker gave this answer. Gateways in front of it answer 404 with a web page or plain text.
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
