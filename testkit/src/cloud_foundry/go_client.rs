//! The real client of Cloud Foundry: the program in `testkit/cloudfoundry-client/`.

use tokio::sync::OnceCell;

use crate::remote::{GoClient, GoClientError, Sources};

static SOURCES: Sources = Sources {
    side: "Cloud Foundry",
    binary: "cloudfoundry-client",
    module: "github.com/cloudfoundry/go-cfclient/v3",
    go_mod: include_str!("../../cloudfoundry-client/go.mod"),
    go_sum: include_str!("../../cloudfoundry-client/go.sum"),
    code: &[("main.go", include_str!("../../cloudfoundry-client/main.go"))],
    usually: "30 seconds",
    program: OnceCell::const_new(),
};

/// The client, built if necessary.
///
/// # Errors
/// [`GoClientError`] names what is missing, or how the build ended.
pub async fn go_client() -> Result<GoClient, GoClientError> {
    GoClient::of(&SOURCES).await
}
