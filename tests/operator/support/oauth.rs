//! A stage whose broker admits tokens of a token server.

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use testkit::{
    broker::{FakeBroker, Login},
    token_server::TokenServer,
};

use super::stage::Stage;

/// A stage whose broker admits clients with a token of this server, and whose provider gets its tokens there.
pub async fn stage(tokens: &TokenServer) -> Stage {
    let broker = FakeBroker::builder().login(Login::oauth(tokens)).start().await.unwrap();
    let stage = Stage::set_with(broker).await;
    stage.create_client("client-secret").await;
    stage.change_provider(client_credentials(&tokens.url())).await;
    stage
}

/// The change of a provider that replaces its login by client credentials.
pub fn client_credentials(token_url: &str) -> Value {
    let login = json!({"tokenUrl": token_url, "secretRef": {"name": "broker-client"}});
    json!({"openServiceBroker": {"auth": {"basic": null, "clientCredentials": login}}})
}

impl Stage {
    /// Creates the Secret with the login at the token server.
    pub async fn create_client(&self, secret: &str) {
        let client = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "broker-client"},
            "stringData": {"clientId": "operator", "clientSecret": secret},
        });
        self.create::<Secret>(client).await;
    }
}
