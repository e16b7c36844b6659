//! The means to reach a plane: its address, the authority that clients trust, and their token.

use std::time::Duration;

use http::Uri;
use kube::{
    Client, Config,
    config::{AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext},
};

use super::{Error, User, certificates::Certificates};

/// The address and authority of one plane.
#[derive(Clone, Debug)]
pub(super) struct Access {
    server: Uri,
    authority: String,
    authority_der: Vec<u8>,
}

impl Access {
    pub(super) fn new(port: u16, certificates: &Certificates) -> Result<Self, Error> {
        // It fails if other code was first, which has the same effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = format!("https://127.0.0.1:{port}");
        Ok(Self {
            server: server.parse().map_err(|error: http::uri::InvalidUri| Error::Format {
                file: "server address",
                why: error.to_string(),
            })?,
            authority: certificates.authority.clone(),
            authority_der: certificates.authority_der.clone(),
        })
    }

    /// The address of the API server.
    pub(super) fn url(&self) -> String {
        self.server.to_string().trim_end_matches('/').to_owned()
    }

    /// A new client. It is bound to the runtime that creates it.
    pub(super) fn client(&self, user: &User) -> Result<Client, Error> {
        Client::try_from(self.config(user)).map_err(Error::kubernetes("make a client"))
    }

    /// The configuration of such a client.
    pub(super) fn config(&self, user: &User) -> Config {
        let mut config = Config::new(self.server.clone());
        config.root_cert = Some(vec![self.authority_der.clone()]);
        config.connect_timeout = Some(Duration::from_secs(10));
        config.auth_info = token(user);
        config
    }

    /// The same configuration as a file, for other processes.
    pub(super) fn kubeconfig(&self, user: &User) -> Result<String, Error> {
        let plane = "testkit".to_owned();
        let kubeconfig = Kubeconfig {
            api_version: Some("v1".into()),
            kind: Some("Config".into()),
            clusters: vec![NamedCluster {
                name: plane.clone(),
                cluster: Some(Cluster {
                    server: Some(self.server.to_string()),
                    certificate_authority_data: Some(base64::Engine::encode(
                        &base64::engine::general_purpose::STANDARD,
                        &self.authority,
                    )),
                    ..Cluster::default()
                }),
                ..NamedCluster::default()
            }],
            auth_infos: vec![NamedAuthInfo {
                name: user.name.clone(),
                auth_info: Some(token(user)),
                ..NamedAuthInfo::default()
            }],
            contexts: vec![NamedContext {
                name: plane.clone(),
                context: Some(Context {
                    cluster: plane.clone(),
                    user: Some(user.name.clone()),
                    ..Context::default()
                }),
                ..NamedContext::default()
            }],
            current_context: Some(plane),
            ..Kubeconfig::default()
        };
        serde_saphyr::to_string(&kubeconfig)
            .map_err(|error| Error::Format { file: "kubeconfig", why: error.to_string() })
    }
}

fn token(user: &User) -> AuthInfo {
    AuthInfo { token: Some(user.token.clone().into()), ..AuthInfo::default() }
}
