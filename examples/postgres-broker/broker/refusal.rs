//! Error answers in the form of the specification (section "Service Broker Errors").

use std::{error::Error, fmt::Display};

use axum::{
    Json,
    http::{StatusCode, header::WWW_AUTHENTICATE},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio_postgres::error::{DbError, SqlState};

/// An answer other than success.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    /// The error code of the specification, if there is one.
    error: Option<&'static str>,
    /// A message for people: the problem and the next step.
    description: String,
}

impl Refusal {
    pub fn new(status: StatusCode, description: impl Into<String>) -> Self {
        Self { status, error: None, description: description.into() }
    }

    pub fn malformed(why: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why.to_string())
    }

    /// A request that conflicts with another one. The caller should retry it later.
    pub fn concurrent(why: impl Into<String>) -> Self {
        Self { error: Some("ConcurrencyError"), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, why) }
    }
}

impl From<tokio_postgres::Error> for Refusal {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            // Two requests for one binding ran at the same time, and the other one was first.
            Some(&SqlState::DUPLICATE_OBJECT | &SqlState::UNIQUE_VIOLATION | &SqlState::UNDEFINED_OBJECT) => {
                Self::concurrent("another request changed this binding a moment ago")
            }
            _ => {
                let why = error.as_db_error().map_or_else(|| chain(&error), said);
                tracing::error!("PostgreSQL failed: {why}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("PostgreSQL failed: {why}"))
            }
        }
    }
}

fn said(error: &DbError) -> String {
    [Some(error.message()), error.detail()].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

fn chain(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, error, description } = self;
        let body = match error {
            None => json!({ "description": description }),
            Some(error) => json!({ "error": error, "description": description }),
        };
        let challenge = (status == StatusCode::UNAUTHORIZED)
            .then_some([(WWW_AUTHENTICATE, r#"Basic realm="postgres-broker", charset="UTF-8""#)]);
        (status, challenge, Json(body)).into_response()
    }
}
