//! A hostile tenant, and the remote side that the tenant controls.
//!
//! The tenant has a namespace, and may create everything in it. The tenant's remote side speaks the protocol well enough
//! to be called, and spoils many of its answers. It is not one of the world's [sides](super::world::World::sides): the
//! checks do not see its keys, and its ServiceKeys need not settle.

use std::{future, io, time::Duration};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use servicekey_operator::testing::Undelivered;
use tokio::time::sleep;

use super::{
    Chance,
    network::LARGEST_ANSWER,
    sides::{Side, SideKind},
};
use crate::remote::Environment;

/// The namespace of the hostile tenant, and the name of the tenant's remote side.
pub const HOSTILE: &str = "hostile";
/// The name of the tenant's login Secret.
pub const LOGIN: &str = "hostile-login";
/// More bytes than the operator reads of an answer about one object.
const TOO_MANY: usize = 3 << 20;
/// More levels than any answer has.
const TOO_DEEP: usize = 100_000;
/// Addresses to which no tenant may send requests.
const FORBIDDEN: [&str; 4] =
    ["https://127.0.0.1:8443", "https://169.254.169.254", "https://[::1]:6443", "https://[fe80::1]"];

/// A provider that the hostile tenant creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// It names the tenant's remote side and login.
    OwnSide,
    /// It names the tenant's login, and the remote side of others.
    OthersSide(usize),
    /// It names the tenant's remote side, and the login Secret of others, which is in another namespace.
    OthersLogin(usize),
    /// It names the remote side of others for calls, and the tenant's own one for logins, or the other way round.
    Mixed(usize),
    /// It names an address that the policy forbids.
    ForbiddenAddress(usize),
}

/// A spoiled answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hostility {
    /// The body never ends.
    Endless,
    /// The body is too large.
    Huge,
    /// The body is JSON with too many levels.
    Deep,
    /// The answer redirects to the remote side of others.
    Redirect,
    /// All links in the body lead to the remote side of others.
    Links,
    /// The side keeps the connection open and never answers.
    Silence,
    /// The status is another one.
    Status(u16),
    /// The operator is to wait for a year.
    Later,
}

const HOSTILITIES: [Hostility; 10] = [
    Hostility::Endless,
    Hostility::Huge,
    Hostility::Deep,
    Hostility::Redirect,
    Hostility::Links,
    Hostility::Silence,
    Hostility::Status(200),
    Hostility::Status(401),
    Hostility::Status(410),
    Hostility::Later,
];

/// The remote side of the hostile tenant.
#[derive(Debug)]
pub struct HostileSide {
    side: Side,
    chance: Chance,
}

impl HostileSide {
    /// A remote side of any kind.
    ///
    /// # Errors
    /// The fake refuses its options.
    pub fn new(chance: Chance, environment: Environment) -> Result<Self, String> {
        let kind = *chance.pick(&[SideKind::Broker, SideKind::CloudFoundry, SideKind::IbmCloud]);
        Ok(Self { side: Side::new(kind, HOSTILE, None, environment)?, chance })
    }

    /// The fake behind the spoiled answers.
    #[must_use]
    pub const fn side(&self) -> &Side {
        &self.side
    }

    /// The chance of everything that is hostile.
    #[must_use]
    pub const fn chance(&self) -> &Chance {
        &self.chance
    }

    /// Answers a request, or spoils the answer. `others`: a host of others.
    ///
    /// # Errors
    /// The connection was closed before the answer.
    pub async fn call(&self, request: Request<Bytes>, others: &str) -> Result<Response<Body>, Undelivered> {
        sleep(self.chance.millis(1..50)).await;
        let path = request.uri().path().to_owned();
        let spoiled = self.chance.percent(40).then(|| *self.chance.pick(&HOSTILITIES));
        let answer = self.side.call(request).await.map_err(|_| Undelivered::Cut)?;
        let Some(hostility) = spoiled else { return Ok(answer) };
        let (mut head, body) = answer.into_parts();
        Ok(match hostility {
            Hostility::Endless => {
                let drip = stream::unfold((), |()| async {
                    sleep(Duration::from_millis(500)).await;
                    Some((Ok::<_, io::Error>(Bytes::from_static(b" ")), ()))
                });
                head.headers.remove(header::CONTENT_LENGTH);
                Response::from_parts(head, Body::from_stream(drip))
            }
            Hostility::Huge => Response::new(Body::from(vec![b' '; TOO_MANY])),
            Hostility::Deep => Response::new(Body::from("[".repeat(TOO_DEEP))),
            Hostility::Redirect => {
                let mut answer = Response::new(Body::empty());
                *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
                if let Ok(target) = HeaderValue::try_from(format!("{others}{path}")) {
                    answer.headers_mut().insert(header::LOCATION, target);
                }
                answer
            }
            Hostility::Links => {
                let body = to_bytes(body, LARGEST_ANSWER).await.map_err(|_| Undelivered::Cut)?;
                Response::from_parts(head, Body::from(redirect_links(&body, others)))
            }
            Hostility::Silence => future::pending().await,
            Hostility::Status(status) => {
                head.status = StatusCode::from_u16(status).unwrap_or_default();
                Response::from_parts(head, body)
            }
            Hostility::Later => {
                let mut answer = Response::new(Body::empty());
                *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("31536000"));
                answer
            }
        })
    }

    /// The spec of the provider for an attack on these sides.
    #[must_use]
    pub fn provider_spec(&self, attack: Attack, sides: &[Side]) -> Value {
        let others = |number: usize| &sides[number % sides.len()];
        match attack {
            Attack::OwnSide => self.side.provider_spec_with(LOGIN),
            Attack::OthersSide(number) => others(number).provider_spec_with(LOGIN),
            Attack::OthersLogin(number) => {
                self.side.provider_spec_with(&format!("{}-login", others(number).name))
            }
            Attack::Mixed(number) => {
                let (mut spec, foreign) =
                    (self.side.provider_spec_with(LOGIN), others(number).provider_spec_with(LOGIN));
                let fields = ["/cloudFoundry/uaaUrl", "/ibmCloud/iamUrl", "/openServiceBroker/url"];
                for field in fields {
                    if let (Some(own), Some(other)) = (spec.pointer_mut(field), foreign.pointer(field)) {
                        *own = other.clone();
                    }
                }
                spec
            }
            Attack::ForbiddenAddress(number) => {
                let address = FORBIDDEN[number % FORBIDDEN.len()];
                let mut spec = self.side.provider_spec_with(LOGIN);
                let fields = [
                    "/openServiceBroker/url",
                    "/cloudFoundry/apiUrl",
                    "/cloudFoundry/uaaUrl",
                    "/ibmCloud/iamUrl",
                    "/ibmCloud/resourceControllerUrl",
                ];
                for field in fields {
                    if let Some(url) = spec.pointer_mut(field) {
                        *url = json!(address);
                    }
                }
                spec
            }
        }
    }

    /// The entries of the tenant's login Secret.
    #[must_use]
    pub fn login(&self) -> Value {
        self.side.login(true)
    }

    /// `spec.instance` of a ServiceKey for the attack.
    #[must_use]
    pub fn instance(&self, attack: Attack, sides: &[Side]) -> Value {
        match attack {
            Attack::OthersSide(number) => sides[number % sides.len()].instance(),
            Attack::OwnSide | Attack::OthersLogin(_) | Attack::Mixed(_) | Attack::ForbiddenAddress(_) => {
                self.side.instance()
            }
        }
    }
}

/// Replaces the hosts of all links in an answer.
#[must_use]
pub fn redirect_links(body: &[u8], target: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let mut parts = text.split("https://");
    let mut redirected = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(['/', '"', '?']).unwrap_or(part.len());
        redirected.push_str(target);
        redirected.push_str(&part[end..]);
    }
    redirected.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_links_lead_to_the_target() {
        let body = br#"{"self": "https://a.example/v3", "next": {"href": "https://b.example"}}"#;
        let redirected = String::from_utf8(redirect_links(body, "https://c.example")).unwrap();
        assert_eq!(redirected, r#"{"self": "https://c.example/v3", "next": {"href": "https://c.example"}}"#);
    }
}
