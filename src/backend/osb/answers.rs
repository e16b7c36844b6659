//! Reads the answers that only an Open Service Broker gives: keys, accepted operations and their progress.

use std::time::Duration;

use reqwest::StatusCode;
use uuid::Uuid;

use super::{
    classify::BrokerCall,
    session::BrokerSession,
    wire::{self, LastOperationState},
};
use crate::backend::{
    Accepted, BackendError, ErrorClass, IssuedKey, Progress,
    exchange::Exchange,
    http::{Response, is_web_page},
};

/// Brokers that work in the background take seconds at least, so an earlier poll would be wasted.
const FIRST_LOOK: Duration = Duration::from_millis(500);

impl Exchange<'_, BrokerSession> {
    /// Reads the key from a successful answer.
    ///
    /// # Errors
    /// When the body did not arrive or contains no key.
    pub(super) fn issued_key(
        &self,
        response: &Response,
        binding_id: Uuid,
    ) -> Result<IssuedKey, BackendError> {
        let body = self.body(response)?;
        wire::issued_key(body, binding_id).map_err(|what| {
            let error = self.malformed(response, what);
            // An earlier request created the key, and the broker returned its credentials then. Another request would
            // not bring them back.
            let class = match self.call {
                BrokerCall::Bind
                    if response.status == StatusCode::OK && wire::withholds_credentials(body) =>
                {
                    ErrorClass::Withheld
                }
                // A gateway answers 200 with a web page. A broker answers 201 to a request that creates a key.
                BrokerCall::Bind if response.status == StatusCode::OK && is_web_page(body) => error.class,
                // The next answer would be the same.
                BrokerCall::Bind => ErrorClass::Unusable,
                BrokerCall::Catalog
                | BrokerCall::Instance
                | BrokerCall::Fetch
                | BrokerCall::Unbind
                | BrokerCall::LastOperation => error.class,
            };
            BackendError { class, ..error }
        })
    }

    /// Reads an answer that accepts an operation.
    ///
    /// # Errors
    /// When the body did not arrive or can't be read.
    pub(super) fn accepted(
        &self,
        response: &Response,
        longest: Option<Duration>,
    ) -> Result<Accepted, BackendError> {
        let token = self.read(response, wire::operation_token)?;
        Ok(Accepted { token, retry_after: response.retry_after, longest, first_look: FIRST_LOOK })
    }

    /// Reads the progress that the broker reports.
    ///
    /// # Errors
    /// When the body did not arrive or can't be read.
    pub(super) async fn progress(&self, response: &Response) -> Result<Progress, BackendError> {
        let body = self.body(response)?;
        let said = self.redactor(body).await.description(body);
        Ok(match self.read(response, wire::operation_state)? {
            LastOperationState::InProgress => Progress::Running { said, retry_after: response.retry_after },
            LastOperationState::Succeeded => Progress::Succeeded,
            LastOperationState::Failed => {
                let said = said.unwrap_or_else(|| "no description".to_owned());
                Progress::Failed { said, leaves_orphan: true }
            }
        })
    }
}
