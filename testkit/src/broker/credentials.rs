//! The credentials of bindings.

use std::{fmt, sync::Arc, time::Duration};

use super::catalog::Instance;
use crate::remote::Environment;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde::Serialize;
use serde_json::{Map, Value, json};

type Recipe = dyn Fn(&Instance, u64, &Environment) -> Map<String, Value> + Send + Sync;
type MetadataRecipe = dyn Fn(u64) -> BindingMetadata + Send + Sync;

/// The private key of all client certificates.
const CLIENT_KEY: &str = include_str!("client-key.pem");

/// A certificate in PEM that begins at that time since 1970. With this kind of key, signatures are not random.
#[expect(clippy::expect_used, reason = "the key and the name are always the same")]
fn client_certificate(number: u64, begins: Duration, life: Duration) -> String {
    let key = KeyPair::from_pem(CLIENT_KEY).expect("the private key is of a known kind");
    let mut params = CertificateParams::new([format!("user-{number}")]).expect("the name is one of DNS");
    params.not_before = date_time_ymd(1970, 1, 1) + begins;
    params.not_after = params.not_before + life;
    params.self_signed(&key).expect("the parameters are complete").pem()
}

/// The end of a binding, and the time by which it should be replaced (section Binding Metadata Object): timestamps of
/// ISO 8601, or any other text that a broker may send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BindingMetadata {
    /// The time after which the credentials are invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The time by which the binding should be renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<String>,
}

/// Creates the credentials of a binding from its instance and its number, which is 1 for the first binding of the
/// broker. It also decides how often the broker shows them.
#[derive(Clone)]
pub struct CredentialsRecipe {
    credentials: Arc<Recipe>,
    metadata: Arc<MetadataRecipe>,
    pub(super) shown_once: bool,
}

impl CredentialsRecipe {
    /// A custom recipe. It should create new secrets for each number, unless the broker is to return the same ones for
    /// all bindings.
    pub fn new(recipe: impl Fn(&Instance, u64) -> Map<String, Value> + Send + Sync + 'static) -> Self {
        Self::with_environment(move |instance, number, _| recipe(instance, number))
    }

    fn with_environment(
        recipe: impl Fn(&Instance, u64, &Environment) -> Map<String, Value> + Send + Sync + 'static,
    ) -> Self {
        Self {
            credentials: Arc::new(recipe),
            metadata: Arc::new(|_| BindingMetadata::default()),
            shown_once: false,
        }
    }

    /// The credentials of a PostgreSQL service: `hostname`, `port` (a number), `username`, `password` (with characters
    /// that a URI must escape), `uri`, and `ca` (a PEM of several lines).
    #[must_use]
    pub fn postgresql() -> Self {
        Self::with_environment(|instance, number, environment| {
            let hostname = format!("{}.db.example.com", instance.name);
            let username = format!("user-{number}");
            let password = format!("p@ss/{number}:{}", environment.secret());
            let escaped = utf8_percent_encode(&password, NON_ALPHANUMERIC);
            let uri = format!("postgresql://{username}:{escaped}@{hostname}:5432/app");
            let credentials = [
                ("hostname", json!(hostname)),
                ("port", json!(5432)),
                ("username", json!(username)),
                ("password", json!(password)),
                ("uri", json!(uri)),
                ("ca", json!(include_str!("training-ca.pem"))),
            ];
            credentials.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
        })
    }

    /// Adds `metadata` by the binding's number. Without it, bindings have none.
    #[must_use]
    pub fn metadata(mut self, recipe: impl Fn(u64) -> BindingMetadata + Send + Sync + 'static) -> Self {
        self.metadata = Arc::new(recipe);
        self
    }

    /// Adds the entries `certificate` and `key`: a client certificate that ends after this time, and its private key, in
    /// PEM. `valid_until` is the same end as text. All certificates have the same private key, so that a simulation can
    /// repeat them.
    #[must_use]
    pub fn with_certificate(self, life: impl Fn(u64) -> Duration + Send + Sync + 'static) -> Self {
        let Self { credentials, metadata, shown_once } = self;
        let with_certificate = move |instance: &Instance, number: u64, environment: &Environment| {
            let mut entries = credentials(instance, number, environment);
            let (begins, life) = (environment.now(), life(number));
            let certificate = client_certificate(number, environment.epoch(), life);
            let ends = begins.saturating_add(life).unwrap_or(begins);
            entries.insert("valid_until".to_owned(), format!("{ends:.0}").into());
            entries.insert("certificate".to_owned(), certificate.into());
            entries.insert("key".to_owned(), CLIENT_KEY.into());
            entries
        };
        Self { credentials: Arc::new(with_certificate), metadata, shown_once }
    }

    /// Adds the entry `token`: a JSON Web Token that ends after this time. Nobody can verify its signature.
    #[must_use]
    pub fn with_token(self, life: Duration) -> Self {
        let Self { credentials, metadata, shown_once } = self;
        let with_token = move |instance: &Instance, number: u64, environment: &Environment| {
            let mut entries = credentials(instance, number, environment);
            let claims =
                json!({"sub": format!("user-{number}"), "exp": (environment.epoch() + life).as_secs()});
            let parts = [json!({"alg": "HS256"}).to_string(), claims.to_string(), environment.secret()];
            let token = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
            entries.insert("token".to_owned(), token.into());
            entries
        };
        Self { credentials: Arc::new(with_token), metadata, shown_once }
    }

    /// Shows credentials once only, if bindings can't be read back either: a repeated bind gets `{}`.
    #[must_use]
    pub const fn shown_once(mut self) -> Self {
        self.shown_once = true;
        self
    }

    pub(crate) fn make(
        &self,
        instance: &Instance,
        number: u64,
        environment: &Environment,
    ) -> (Map<String, Value>, BindingMetadata) {
        ((self.credentials)(instance, number, environment), (self.metadata)(number))
    }
}

impl Default for CredentialsRecipe {
    fn default() -> Self {
        Self::postgresql()
    }
}

impl fmt::Debug for CredentialsRecipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsRecipe")
    }
}
