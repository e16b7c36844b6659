//! The remote sides of a simulation: the strict fakes, in this process, behind one interface.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, Uri};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    broker::{self, CredentialsRecipe, FakeBroker},
    cloud_foundry::{self, FakeCloudFoundry},
    ibm_cloud::{self, FakeIbmCloud},
    remote::{Environment, NoAnswer},
};

/// The instance that all keys are for.
const INSTANCE: &str = "training-app-db";

/// The longest time of a request, as the providers say. Late effects come sooner.
pub const TIMEOUT: &str = "5s";

/// A kind of remote side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideKind {
    /// An Open Service Broker.
    Broker,
    /// A Cloud Foundry.
    CloudFoundry,
    /// An account of IBM Cloud.
    IbmCloud,
}

/// A remote side.
pub struct Side {
    /// The name of its provider.
    pub name: String,
    fake: SideFake,
    /// The life of the certificates of new keys, in seconds.
    life: Arc<AtomicU64>,
}

enum SideFake {
    Broker(FakeBroker),
    CloudFoundry(FakeCloudFoundry),
    IbmCloud(FakeIbmCloud),
}

/// A key that exists at a remote side.
#[derive(Clone, PartialEq, Eq)]
pub struct SideKey {
    /// Its id there.
    pub id: String,
    /// The UID and the sequence in its mark. At a broker the id is derived from both and shows neither.
    pub mark: Option<(Uuid, u32)>,
    /// A text that only its credentials contain; empty if it has none yet.
    pub secret: String,
    /// The end of the certificate in its credentials.
    pub ends: Option<Timestamp>,
}

impl fmt::Debug for SideKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideKey").field("id", &self.id).field("mark", &self.mark).finish_non_exhaustive()
    }
}

/// A change at a remote side that no call of the operator causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideChange {
    /// A key disappears: the oldest, the second oldest, and so on.
    LoseKey(usize),
    /// The login stops working, or works again.
    RefuseLogin(bool),
    /// Keys are created and deleted in the background, or at once.
    Background(bool),
    /// Brokers refuse an operation while another one is under way at the same instance, or accept it.
    OneAtATime(bool),
    /// Another client's operation is under way at the instance, so brokers refuse all others, or it has ended.
    Occupied(bool),
}

impl Side {
    /// A remote side of this kind, which answers at hosts named after it. Its keys have certificates of this life, or
    /// none.
    ///
    /// # Errors
    /// The options of the fake contradict each other.
    pub fn new(
        kind: SideKind,
        name: &str,
        life: Option<Duration>,
        environment: Environment,
    ) -> Result<Self, String> {
        let domain = format!("{name}.example");
        let seconds = Arc::new(AtomicU64::new(life.unwrap_or_default().as_secs()));
        let mut credentials = CredentialsRecipe::default();
        if life.is_some() {
            let seconds = Arc::clone(&seconds);
            credentials =
                credentials.with_certificate(move |_| Duration::from_secs(seconds.load(Ordering::SeqCst)));
        }
        let fake = match kind {
            // The world makes logins wrong.
            SideKind::Broker => {
                let fake = FakeBroker::builder()
                    .environment(environment)
                    .credentials(credentials)
                    .tolerate(broker::Rule::Login)
                    .in_process(&domain);
                SideFake::Broker(fake.map_err(|error| error.to_string())?)
            }
            SideKind::CloudFoundry => {
                let fake = FakeCloudFoundry::builder()
                    .environment(environment)
                    .credentials(credentials)
                    .tolerate(cloud_foundry::Rule::Password)
                    .in_process(&domain);
                SideFake::CloudFoundry(fake.map_err(|error| error.to_string())?)
            }
            SideKind::IbmCloud => {
                let fake = FakeIbmCloud::builder()
                    .environment(environment)
                    .credentials(credentials)
                    .tolerate(ibm_cloud::Rule::Secret)
                    .in_process(&domain);
                SideFake::IbmCloud(fake.map_err(|error| error.to_string())?)
            }
        };
        let side = Self { name: name.to_owned(), fake, life: seconds };
        side.change(SideChange::RefuseLogin(false));
        Ok(side)
    }

    /// The password or API key that works, and one that does not. No other side has the same.
    #[must_use]
    pub fn passwords(&self) -> [String; 2] {
        ["right", "wrong"].map(|kind| format!("{kind}-password-of-{}", self.name))
    }

    /// Gives certificates of this life to new keys, if they have certificates.
    pub fn certify_for(&self, life: Duration) {
        self.life.store(life.as_secs(), Ordering::SeqCst);
    }

    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> SideKind {
        match self.fake {
            SideFake::Broker(_) => SideKind::Broker,
            SideFake::CloudFoundry(_) => SideKind::CloudFoundry,
            SideFake::IbmCloud(_) => SideKind::IbmCloud,
        }
    }

    /// Whether one of its hosts is that of the URI.
    #[must_use]
    pub fn serves(&self, uri: &Uri) -> bool {
        match &self.fake {
            SideFake::Broker(fake) => fake.serves(uri),
            SideFake::CloudFoundry(fake) => fake.serves(uri),
            SideFake::IbmCloud(fake) => fake.serves(uri),
        }
    }

    /// The URL of its first host.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.fake {
            SideFake::Broker(fake) => fake.url(),
            SideFake::CloudFoundry(fake) => fake.url(),
            SideFake::IbmCloud(fake) => fake.url(),
        }
    }

    /// Calls it. The URI must be absolute.
    ///
    /// # Errors
    /// The connection was closed before the answer.
    pub async fn call(&self, request: Request<Bytes>) -> Result<Response<Body>, NoAnswer> {
        match &self.fake {
            SideFake::Broker(fake) => fake.call(request).await,
            SideFake::CloudFoundry(fake) => fake.call(request).await,
            SideFake::IbmCloud(fake) => fake.call(request).await,
        }
    }

    /// All keys that exist, in the order of their creation.
    #[must_use]
    pub fn keys(&self) -> Vec<SideKey> {
        match &self.fake {
            SideFake::Broker(fake) => {
                let key = |binding: broker::Binding| SideKey {
                    id: binding.id.to_string(),
                    mark: None,
                    secret: secret(&binding.credentials),
                    ends: end(&binding.credentials),
                };
                fake.bindings().into_iter().map(key).collect()
            }
            SideFake::CloudFoundry(fake) => {
                let key = |key: cloud_foundry::Key| SideKey {
                    mark: mark_of_labels(&key),
                    secret: key.credentials.as_ref().map(secret).unwrap_or_default(),
                    ends: key.credentials.as_ref().and_then(end),
                    id: key.guid,
                };
                fake.keys().into_iter().map(key).collect()
            }
            SideFake::IbmCloud(fake) => {
                let keys = fake.live_keys().into_iter();
                keys.map(|key| SideKey {
                    mark: mark_of_name(&key.name),
                    secret: secret(&key.credentials),
                    ends: end(&key.credentials),
                    id: key.guid,
                })
                .collect()
            }
        }
    }

    /// Changes something without a call.
    pub fn change(&self, change: SideChange) {
        let id = |number: usize| self.keys().get(number).map(|key| key.id.clone());
        let [right, _] = self.passwords();
        let accepted = |refused: bool| if refused { "another-password".to_owned() } else { right.clone() };
        match (&self.fake, change) {
            (SideFake::Broker(fake), SideChange::LoseKey(number)) => {
                id(number).and_then(|id| id.parse().ok()).map(|id| fake.forget(id));
            }
            (SideFake::CloudFoundry(fake), SideChange::LoseKey(number)) => {
                id(number).map(|id| fake.forget(&id));
            }
            (SideFake::IbmCloud(fake), SideChange::LoseKey(number)) => {
                id(number).map(|id| fake.forget(&id));
            }
            (SideFake::Broker(fake), SideChange::RefuseLogin(refused)) => {
                fake.change_login(broker::Login::basic("operator", accepted(refused)));
            }
            (SideFake::CloudFoundry(fake), SideChange::RefuseLogin(refused)) => {
                fake.change_secret("alice", accepted(refused));
                fake.revoke_tokens();
                fake.revoke_refresh_tokens();
            }
            (SideFake::IbmCloud(fake), SideChange::RefuseLogin(refused)) => {
                fake.change_secret("alice", accepted(refused));
                fake.revoke_tokens();
            }
            (SideFake::Broker(fake), SideChange::Background(background)) => {
                fake.change_pace(if background { broker::Pace::polls(2) } else { broker::Pace::at_once() });
            }
            (SideFake::CloudFoundry(fake), SideChange::Background(background)) => {
                use cloud_foundry::Pace;
                fake.change_pace(if background { Pace::looks(2) } else { Pace::at_once() });
            }
            (SideFake::CloudFoundry(fake), SideChange::OneAtATime(one)) => {
                fake.change_one_at_a_time(one);
                if one {
                    // Nothing else is ever under way at a side that completes each operation at once.
                    fake.change_pace(cloud_foundry::Pace::looks(2));
                }
            }
            (SideFake::CloudFoundry(fake), SideChange::Occupied(occupied)) => fake.occupy(occupied),
            (
                SideFake::Broker(_) | SideFake::IbmCloud(_),
                SideChange::OneAtATime(_) | SideChange::Occupied(_),
            ) => {}
            // It has no work in the background.
            (SideFake::IbmCloud(_), SideChange::Background(_)) => {}
        }
    }

    /// Ends the work that is under way, as time does. The fakes count polls instead.
    pub fn finish_work(&self) {
        match &self.fake {
            SideFake::Broker(fake) => drop(fake.finish_all()),
            SideFake::CloudFoundry(fake) => drop(fake.finish_all()),
            SideFake::IbmCloud(_) => {}
        }
    }

    /// Ends the work that is under way, and forgets the faults. A fake that is dropped afterwards does not complain.
    ///
    /// # Errors
    /// The rules of the protocol that the operator broke.
    pub fn finish(&self) -> Result<(), String> {
        let broken = match &self.fake {
            SideFake::Broker(fake) => {
                fake.clear_faults();
                let _ = (fake.release_late(), fake.finish_all());
                format_all(&fake.take_violations())
            }
            SideFake::CloudFoundry(fake) => {
                fake.clear_faults();
                let _ = (fake.release_late(), fake.finish_all());
                format_all(&fake.take_violations())
            }
            SideFake::IbmCloud(fake) => {
                fake.clear_faults();
                let _ = fake.release_late();
                format_all(&fake.take_violations())
            }
        };
        if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
    }

    /// The spec of a provider for it, whose login is the Secret `{name}-login`.
    #[must_use]
    pub fn provider_spec(&self) -> Value {
        self.provider_spec_with(&format!("{}-login", self.name))
    }

    /// The spec of a provider for it, whose login is this Secret.
    #[must_use]
    pub fn provider_spec_with(&self, login: &str) -> Value {
        let backend = match &self.fake {
            SideFake::Broker(fake) => json!({"openServiceBroker": {
                "url": fake.url(),
                "auth": {"basic": {"secretRef": {"name": login}}},
            }}),
            SideFake::CloudFoundry(fake) => json!({"cloudFoundry": {
                "apiUrl": fake.url(),
                "auth": {"password": {"secretRef": {"name": login}}},
                "organization": "acme",
                "space": "dev",
                "uaaUrl": fake.uaa_url(),
            }}),
            SideFake::IbmCloud(fake) => json!({"ibmCloud": {
                "auth": {"apiKey": {"secretRef": {"name": login}}},
                "iamUrl": fake.iam_url(),
                "resourceControllerUrl": fake.url(),
            }}),
        };
        let mut spec = backend;
        spec["limits"] = json!({"timeout": TIMEOUT});
        spec
    }

    /// The entries of the login Secret; `right` says whether the login works.
    #[must_use]
    pub fn login(&self, right: bool) -> Value {
        let [works, fails] = self.passwords();
        let secret = if right { works } else { fails };
        match self.fake {
            SideFake::Broker(_) => json!({"username": "operator", "password": secret}),
            SideFake::CloudFoundry(_) => json!({"username": "alice", "password": secret}),
            SideFake::IbmCloud(_) => json!({"apikey": secret}),
        }
    }

    /// `spec.instance` of a ServiceKey.
    #[must_use]
    pub fn instance(&self) -> Value {
        match self.fake {
            SideFake::Broker(_) => json!({"id": INSTANCE, "offering": "postgresql", "plan": "small"}),
            SideFake::CloudFoundry(_) | SideFake::IbmCloud(_) => json!({"name": INSTANCE}),
        }
    }
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("name", &self.name).field("kind", &self.kind()).finish_non_exhaustive()
    }
}

fn secret(credentials: &Map<String, Value>) -> String {
    let entry = ["password", "apikey"].iter().find_map(|name| credentials.get(*name)?.as_str());
    entry.unwrap_or_default().to_owned()
}

fn end(credentials: &Map<String, Value>) -> Option<Timestamp> {
    credentials.get("valid_until")?.as_str()?.parse().ok()
}

fn mark_of_labels(key: &cloud_foundry::Key) -> Option<(Uuid, u32)> {
    let owner = key.labels.get("servicekeys.dev/owner")?.parse().ok()?;
    Some((owner, key.annotations.get("servicekeys.dev/sequence")?.parse().ok()?))
}

/// The mark at the end of a name: `-sk{cluster}-{uid}-{sequence}`.
fn mark_of_name(name: &str) -> Option<(Uuid, u32)> {
    let (rest, sequence) = name.rsplit_once('-')?;
    let uid = rest.get(rest.len().checked_sub(36)?..)?;
    Some((uid.parse().ok()?, sequence.parse().ok()?))
}

fn format_all(violations: &[impl fmt::Display]) -> Vec<String> {
    violations.iter().map(ToString::to_string).collect()
}
