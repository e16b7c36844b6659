//! The part of the Open Service Broker API, version 2.17, that is about keys: the catalog, bind, fetch and unbind.
//!
//! The broker answers when the work is done, so there is nothing to poll; `accepts_incomplete` allows that. The
//! instances are arguments of the broker. A platform that creates instances also needs `PUT` and `DELETE` on
//! `/v2/service_instances/:instance_id`.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    middleware,
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Broker,
    admission::admit,
    catalog,
    credentials::{Credentials, password},
    instance::{Access, Found, Instance},
    refusal::Refusal,
    server,
    sql::Name,
};

type Reply = Result<(StatusCode, Json<Value>), Refusal>;
type Target = Result<Path<(String, String)>, PathRejection>;

pub fn router(broker: Arc<Broker>) -> Router {
    let nothing = || async { Refusal::new(StatusCode::NOT_FOUND, "this broker has nothing here") };
    Router::new()
        .route("/v2/catalog", get(|| async { Json(catalog::catalog()) }))
        .route(
            "/v2/service_instances/{instance}/service_bindings/{binding}",
            get(fetch).put(bind).delete(unbind),
        )
        .fallback(nothing)
        .method_not_allowed_fallback(nothing)
        .layer(middleware::from_fn_with_state(Arc::clone(&broker), admit))
        .with_state(broker)
}

/// The body of a bind. The broker ignores the other fields of the specification.
#[derive(Deserialize)]
struct Wish {
    #[serde(flatten)]
    plan: Plan,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Deserialize)]
struct Plan {
    service_id: String,
    plan_id: String,
}

/// Unknown parameters are refused, so that the broker does not ignore a misspelled one.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    access: Access,
}

/// "Creating a Service Binding": 201 for a new binding, 200 for a repeated request, 409 if the id has another binding.
async fn bind(
    State(broker): State<Arc<Broker>>,
    target: Target,
    wish: Result<Json<Wish>, JsonRejection>,
) -> Reply {
    let Json(Wish { plan, parameters: Parameters { access } }) = wish.map_err(Refusal::malformed)?;
    plan.check()?;
    let binding = Binding::at(&broker, target)?;
    match binding.instance.find(&binding.key).await? {
        Found::Nothing => {
            binding.instance.create(&binding.key, access, &binding.password).await?;
            Ok((StatusCode::CREATED, Json(binding.body(access))))
        }
        Found::Key(existing) if existing == access => {
            binding.check_password().await?;
            Ok((StatusCode::OK, Json(binding.body(access))))
        }
        Found::Key(_) => Err(Refusal::new(StatusCode::CONFLICT, "this binding exists, with other access")),
        Found::Foreign => Err(Refusal::new(StatusCode::CONFLICT, "this binding exists, of another instance")),
        Found::Remains => Err(Refusal::concurrent("this binding is being deleted; delete it once more")),
    }
}

/// "Fetching a Service Binding".
async fn fetch(State(broker): State<Arc<Broker>>, target: Target) -> Reply {
    let binding = Binding::at(&broker, target)?;
    match binding.instance.find(&binding.key).await? {
        Found::Key(access) => {
            binding.check_password().await?;
            Ok((StatusCode::OK, Json(binding.body(access))))
        }
        Found::Nothing | Found::Remains | Found::Foreign => {
            Err(Refusal::new(StatusCode::NOT_FOUND, "there is no such binding"))
        }
    }
}

/// "Unbinding": 200 if the binding was deleted, 410 if there is none.
async fn unbind(
    State(broker): State<Arc<Broker>>,
    target: Target,
    plan: Result<Query<Plan>, QueryRejection>,
) -> Reply {
    let Query(plan) = plan.map_err(Refusal::malformed)?;
    plan.check()?;
    let binding = Binding::at(&broker, target)?;
    match binding.instance.find(&binding.key).await? {
        Found::Key(_) | Found::Remains => {
            binding.instance.remove(&binding.key).await?;
            Ok((StatusCode::OK, Json(json!({}))))
        }
        Found::Nothing | Found::Foreign => Ok((StatusCode::GONE, Json(json!({})))),
    }
}

impl Plan {
    fn check(&self) -> Result<(), Refusal> {
        if self.service_id == catalog::OFFERING_ID && self.plan_id == catalog::PLAN_ID {
            return Ok(());
        }
        Err(Refusal::malformed("`service_id` and `plan_id` are not those of the catalog"))
    }
}

/// The binding of a request, which may not exist. The password is derived in any case.
struct Binding<'a> {
    broker: &'a Broker,
    instance: &'a Instance,
    key: Name,
    password: String,
}

impl<'a> Binding<'a> {
    fn at(broker: &'a Broker, target: Target) -> Result<Self, Refusal> {
        let Path((instance, binding)) = target.map_err(Refusal::malformed)?;
        let Some(instance) = broker.instances.get(&instance) else {
            // Not 410, not even for an unbind: the broker does not know whether the binding is gone.
            let description = format!("this broker serves no instance `{instance}`");
            return Err(Refusal::new(StatusCode::NOT_FOUND, description));
        };
        let key = server::key(&binding)
            .map_err(|why| Refusal::malformed(format!("the id of the binding can't be used: {why}")))?;
        Ok(Self { broker, instance, key, password: password(&broker.secret, &binding) })
    }

    /// Checks that the derived password works, before the broker returns it.
    async fn check_password(&self) -> Result<(), Refusal> {
        if self.instance.admits(&self.key, &self.password).await? {
            return Ok(());
        }
        let description =
            "the binding has another password than this broker gave it: was the broker's secret changed?";
        Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, description))
    }

    fn body(&self, access: Access) -> Value {
        let Self { broker, instance, key, password } = self;
        let credentials = Credentials::new(&broker.address, instance.database(), key, password);
        json!({ "credentials": credentials, "parameters": { "access": access } })
    }
}
