//! Reads a request for a token strictly.

use std::fmt;

use axum::http::{HeaderMap, StatusCode};

use super::super::{
    answer::{Refusal, no_token},
    record::Rule,
};
use crate::remote::reading::{self, Parameters};

const API_KEY: &str = "urn:ibm:params:oauth:grant-type:apikey";
const CR_TOKEN: &str = "urn:ibm:params:oauth:grant-type:cr-token";
const PARAMETERS: [&str; 6] =
    ["grant_type", "apikey", "cr_token", "profile_id", "profile_name", "response_type"];

/// The grants of IAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// An API key.
    ApiKey,
    /// The token of a compute resource, such as a pod's service account, for a trusted profile.
    ComputeResource,
}

/// A well-formed request. `Debug` omits secrets.
#[derive(Clone)]
pub(in super::super) enum GrantRequest {
    ApiKey(String),
    ComputeResource { token: String, profile: Profile },
}

/// The trusted profile in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Profile {
    Id(String),
    Name(String),
}

impl GrantRequest {
    /// Reads a request.
    pub(crate) fn read(headers: &HeaderMap, body: Option<&[u8]>) -> Result<Self, Refusal> {
        let mut form = reading::form(headers, body, &PARAMETERS).map_err(malformed)?;
        if form.remove("response_type").is_some_and(|kind| kind != "cloud_iam") {
            return Err(malformed("`response_type` is cloud_iam".into()));
        }
        let request = match take(&mut form, "grant_type")?.as_str() {
            API_KEY => Self::ApiKey(take(&mut form, "apikey")?),
            CR_TOKEN => {
                let token = take(&mut form, "cr_token")?;
                let profile = match (form.remove("profile_id"), form.remove("profile_name")) {
                    (Some(id), None) => Profile::Id(id),
                    (None, Some(name)) => Profile::Name(name),
                    _ => return Err(malformed("either `profile_id` or `profile_name` is needed".into())),
                };
                Self::ComputeResource { token, profile }
            }
            other => {
                let detail = format!("Provided grant_type is not supported: {other}");
                let answer = no_token(StatusCode::BAD_REQUEST, "BXNIM0124E", &detail);
                return Err(Refusal::breach(Rule::GrantType, answer, detail));
            }
        };
        match form.keys().next() {
            None => Ok(request),
            Some(name) => Err(malformed(format!("`{name}` is of another grant"))),
        }
    }

    pub(crate) const fn grant(&self) -> Grant {
        match self {
            Self::ApiKey(_) => Grant::ApiKey,
            Self::ComputeResource { .. } => Grant::ComputeResource,
        }
    }
}

impl fmt::Debug for GrantRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantRequest").field("grant", &self.grant()).finish_non_exhaustive()
    }
}

fn take(form: &mut Parameters, name: &str) -> Result<String, Refusal> {
    form.remove(name).ok_or_else(|| malformed(format!("`{name}` is missing")))
}

fn malformed(detail: String) -> Refusal {
    let answer =
        no_token(StatusCode::BAD_REQUEST, "BXNIM0109E", &format!("Property missing or wrong: {detail}"));
    Refusal::breach(Rule::TokenForm, answer, detail)
}
