//! Checks whether the service accepts the credentials in hand, by the probe of `spec.rotation.verify`.

use std::{collections::BTreeMap, error::Error};

use secrecy::SecretString;

use super::reconciler::Reconciler;
use crate::{
    api::{
        HttpProbe, PostgresProbe, ProbeEncryption, Reason, RedisProbe, TcpProbe, TlsProbe,
        Verification as VerificationSpec,
    },
    backend::{ClientCertificate, Credentials},
    lifecycle::{ProbeOutcome, Problem, Sequence, Verified},
    runtime::words,
    secret::{Entries, Layout},
    verify::{Encryption, Probe, ProbeFailureClass},
};

/// The templates of the probe, by their fields. The layout of a Secret with these entries renders them.
pub(super) fn layout(spec: &VerificationSpec) -> Layout {
    Layout { type_: "Opaque".to_owned(), template: templates(spec), ..Layout::default() }
}

fn templates(spec: &VerificationSpec) -> BTreeMap<String, String> {
    let VerificationSpec { within: _, every: _, tcp, tls, http, postgres, redis } = spec;
    let mut templates = BTreeMap::new();
    let mut add = |field: &str, template: Option<&String>| {
        templates.extend(template.map(|template| (field.to_owned(), template.clone())));
    };
    if let Some(TcpProbe { address }) = tcp {
        add("tcp.address", Some(address));
    }
    if let Some(TlsProbe { address, server_name, ca_bundle, client_certificate, client_key }) = tls {
        add("tls.address", Some(address));
        add("tls.serverName", server_name.as_ref());
        add("tls.caBundle", ca_bundle.as_ref());
        add("tls.clientCertificate", client_certificate.as_ref());
        add("tls.clientKey", client_key.as_ref());
    }
    if let Some(HttpProbe { url, headers, statuses: _, ca_bundle }) = http {
        add("http.url", Some(url));
        add("http.caBundle", ca_bundle.as_ref());
        for (name, value) in headers {
            add(&format!("{HEADER}{name}"), Some(value));
        }
    }
    if let Some(PostgresProbe { address, user, password, database, encryption: _, ca_bundle }) = postgres {
        add("postgres.address", Some(address));
        add("postgres.user", Some(user));
        add("postgres.password", Some(password));
        add("postgres.database", Some(database));
        add("postgres.caBundle", ca_bundle.as_ref());
    }
    if let Some(RedisProbe { address, user, password, encryption: _, ca_bundle }) = redis {
        add("redis.address", Some(address));
        add("redis.user", user.as_ref());
        add("redis.password", Some(password));
        add("redis.caBundle", ca_bundle.as_ref());
    }
    templates
}

/// Prefix of the fields of headers.
const HEADER: &str = "http.headers.";

/// The probe with these values; `None` if the spec has none, or a value is not UTF-8.
fn probe(spec: &VerificationSpec, values: &Entries) -> Option<Probe> {
    let text = |field: &str| values.expose(field).and_then(|value| String::from_utf8(value.to_vec()).ok());
    let secret = |field: &str| text(field).map(SecretString::from);
    let encryption = |wanted: ProbeEncryption, field: &str| match wanted {
        ProbeEncryption::Tls => Encryption::Tls { ca_bundle: text(field) },
        ProbeEncryption::Disabled => Encryption::Disabled,
    };
    if spec.tcp.is_some() {
        return Some(Probe::Tcp { address: text("tcp.address")? });
    }
    if spec.tls.is_some() {
        let certificate = text("tls.clientCertificate").zip(text("tls.clientKey"));
        return Some(Probe::Tls {
            address: text("tls.address")?,
            server_name: text("tls.serverName"),
            ca_bundle: text("tls.caBundle"),
            client_certificate: certificate
                .map(|(cert_pem, key)| ClientCertificate { cert_pem, key_pem: key.into() }),
        });
    }
    if let Some(http) = &spec.http {
        let header = |name: &String| Some((name.clone(), secret(&format!("{HEADER}{name}"))?));
        return Some(Probe::Http {
            url: secret("http.url")?,
            headers: http.headers.keys().map(header).collect::<Option<_>>()?,
            statuses: http.statuses.clone(),
            ca_bundle: text("http.caBundle"),
        });
    }
    if let Some(postgres) = &spec.postgres {
        return Some(Probe::Postgres {
            address: text("postgres.address")?,
            user: text("postgres.user")?,
            password: secret("postgres.password")?,
            database: text("postgres.database")?,
            encryption: encryption(postgres.encryption, "postgres.caBundle"),
        });
    }
    let redis = spec.redis.as_ref()?;
    Some(Probe::Redis {
        address: text("redis.address")?,
        user: text("redis.user"),
        password: secret("redis.password")?,
        encryption: encryption(redis.encryption, "redis.caBundle"),
    })
}

/// Tries the credentials in hand once; `None`: they are no longer in memory.
pub(super) async fn verify(reconciler: &Reconciler<'_>, sequence: Sequence) -> Option<Verified> {
    let in_hand = reconciler.local.in_hand().filter(|(held, _)| held.sequence == sequence);
    let (_, credentials) = in_hand?;
    let outcome = attempt(reconciler, credentials).await;
    tracing::debug!(%sequence, ?outcome, "tried the credentials of a new key");
    Some(Verified { sequence, at: reconciler.context.shared.clock.now(), outcome })
}

async fn attempt(reconciler: &Reconciler<'_>, credentials: Credentials) -> ProbeOutcome {
    let Reconciler { context, target, key, .. } = reconciler;
    let not_asked = |reason, message| ProbeOutcome::NotAsked(Problem { reason, message });
    let templates = &context.shared.shares.templates;
    let Some(spec) = key.spec.rotation.as_ref().and_then(|rotation| rotation.verify.as_ref()) else {
        return not_asked(Reason::InvalidSpec, "`spec.rotation.verify` has no probe".to_owned());
    };
    let values = match templates.render(&target.lane, layout(spec), credentials).await {
        Ok(values) => values,
        Err(error) => {
            let message = format!("`spec.rotation.verify` does not fit the credentials: {error}");
            return not_asked(Reason::InvalidSpec, message);
        }
    };
    let Some(probe) = probe(spec, &values) else {
        let message = "the texts of `spec.rotation.verify` are not UTF-8 with these credentials".to_owned();
        return not_asked(Reason::InvalidSpec, message);
    };
    let Err(failure) = context.shared.prober.probe(&target.namespace, &probe).await else {
        return ProbeOutcome::Accepted;
    };
    if let Some(source) = failure.source() {
        tracing::debug!(error = %words(source), "the probe did not reach the service");
    }
    let message = failure.to_string();
    match failure.class {
        ProbeFailureClass::InvalidProbe => not_asked(Reason::InvalidSpec, message),
        ProbeFailureClass::NotAdmitted => not_asked(Reason::NotPermitted, message),
        ProbeFailureClass::Unreachable
        | ProbeFailureClass::TlsFailed
        | ProbeFailureClass::Refused
        | ProbeFailureClass::UnexpectedAnswer => ProbeOutcome::Refused(message),
    }
}
