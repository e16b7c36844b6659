//! The credentials of keys.

use serde_json::{Map, Value, json};

use super::{
    super::{
        estate::Instance,
        iam::{Access, Session},
        quirks::Redaction,
    },
    Key, State,
};

const SERVICE_KEY: &str = "service_key";

impl State {
    /// Creates the credentials of a key: those of its service, and those of its service ID. Without a named service ID,
    /// IBM Cloud creates one for the key. The fake only names it in the credentials.
    pub(super) fn make_credentials(&mut self, instance: &Instance, key: &Key) -> Map<String, Value> {
        let environment = self.environment.clone();
        let mut credentials = self.service_credentials(instance, key.number);
        if instance.is_auditing {
            credentials.clear();
            let service_key =
                self.service_keys.entry(instance.guid.clone()).or_insert_with(|| environment.secret());
            credentials.insert(SERVICE_KEY.into(), json!(service_key));
        }
        if key.parameters.get("HMAC") == Some(&Value::Bool(true)) {
            let hmac =
                json!({ "access_key_id": environment.secret(), "secret_access_key": environment.secret() });
            credentials.insert("cos_hmac_keys".into(), hmac);
        }
        if !instance.has_roles() {
            return credentials;
        }
        let own = || {
            let id = environment.guid();
            format!("crn:v1:bluemix:public:iam-identity::a/{}::serviceid:ServiceId-{id}", self.account)
        };
        let of_iam = [
            ("apikey", json!(environment.secret())),
            ("iam_apikey_description", json!(format!("Auto-generated for key {}", key.crn))),
            ("iam_apikey_id", json!(format!("ApiKey-{}", environment.guid()))),
            ("iam_apikey_name", json!(key.name)),
            ("iam_serviceid_crn", json!(key.service_id().map_or_else(own, str::to_owned))),
        ];
        credentials.extend(of_iam.map(|(name, value)| (name.to_owned(), value)));
        credentials.extend(key.role.as_ref().map(|role| ("iam_role_crn".to_owned(), json!(role))));
        credentials
    }

    fn service_credentials(&self, instance: &Instance, number: u64) -> Map<String, Value> {
        // The recipe is written for a broker, but does not depend on the offering and the plan here.
        let instance = crate::broker::Instance {
            name: instance.name.clone(),
            ..crate::broker::Instance::new(&instance.guid, "", "")
        };
        self.recipe.make(&instance, number, &self.environment).0
    }

    /// The credentials of a key in a look-up or list.
    pub(super) fn shown_credentials(
        &self,
        key: &Key,
        instance: Option<&Instance>,
        session: &Session,
    ) -> Option<Value> {
        let redaction = self.quirks.redaction.map(Redaction::word);
        if redaction.is_none() && instance.is_some_and(|instance| instance.one_time) {
            return None;
        }
        Some(match (redaction, session.access) {
            (Some(word), _) => redacted(word),
            (None, Access::Full | Access::Editor) => json!(credentials_for(session, key)),
            (None, Access::Viewer | Access::None) => redacted("REDACTED"),
        })
    }

    /// The credentials of a key in the answer to its creation.
    pub(super) fn created_credentials(&self, key: &Key, session: &Session) -> Value {
        match self.quirks.redaction.filter(|_| self.quirks.redacts_creations) {
            Some(redaction) => redacted(redaction.word()),
            None => json!(credentials_for(session, key)),
        }
    }

    /// The `service_key` of an auditing instance, also after the deletion of its keys.
    pub(crate) fn service_key(&self, instance: &str) -> Option<String> {
        self.service_keys.get(&self.instance_named(instance)?.guid).cloned()
    }
}

/// The credentials of a key that the caller may see.
fn credentials_for(session: &Session, key: &Key) -> Map<String, Value> {
    let mut credentials = key.credentials.clone();
    if session.access != Access::Full {
        credentials.remove(SERVICE_KEY);
    }
    credentials
}

fn redacted(word: &str) -> Value {
    json!({ "REDACTED": word })
}
