//! The real client of IBM Cloud: the program in `testkit/ibmcloud-client/`.

use tokio::sync::OnceCell;

use crate::remote::{GoClient, GoClientError, Sources};

static SOURCES: Sources = Sources {
    side: "IBM Cloud",
    binary: "ibmcloud-client",
    module: "github.com/IBM/platform-services-go-sdk",
    go_mod: include_str!("../../ibmcloud-client/go.mod"),
    go_sum: include_str!("../../ibmcloud-client/go.sum"),
    code: &[
        ("main.go", include_str!("../../ibmcloud-client/main.go")),
        ("access.go", include_str!("../../ibmcloud-client/access.go")),
        ("keys.go", include_str!("../../ibmcloud-client/keys.go")),
        ("shapes.go", include_str!("../../ibmcloud-client/shapes.go")),
    ],
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
