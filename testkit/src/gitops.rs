//! The judgement of GitOps tools and kubectl on an object. The program in `testkit/gitops-client/` contains the
//! unmodified kstatus library (Flux, Helm 4's `--wait`), the Lua interpreter of Argo CD, and kubectl's code of `wait`.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::remote::{GoClient, Sources};

pub use crate::remote::GoClientError;

static SOURCES: Sources = Sources {
    side: "GitOps",
    binary: "gitops-client",
    module: "sigs.k8s.io/cli-utils",
    go_mod: include_str!("../gitops-client/go.mod"),
    go_sum: include_str!("../gitops-client/go.sum"),
    code: &[
        ("main.go", include_str!("../gitops-client/main.go")),
        ("health.go", include_str!("../gitops-client/health.go")),
        ("kubectl.go", include_str!("../gitops-client/kubectl.go")),
    ],
    usually: "a minute",
    program: OnceCell::const_new(),
};

/// The judgement of one object.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// The status of kstatus: `InProgress`, `Current`, `Failed` or `Terminating`.
    pub kstatus: String,
    /// The message of kstatus.
    pub kstatus_message: String,
    /// The result of the health script: `Healthy`, `Progressing`, `Degraded` or `Suspended`.
    pub health: String,
    /// The message that Argo CD shows with it.
    pub health_message: String,
    /// Whether `kubectl wait --for=condition=Ready` would end.
    pub ready: bool,
}

/// Judges these objects with all tools and this health script of Argo CD.
///
/// # Errors
/// [`GoClientError`] names what is missing, how the build ended, or what a tool can't read.
pub async fn judge(script: &str, objects: &[Value]) -> Result<Vec<Verdict>, GoClientError> {
    #[derive(Deserialize)]
    struct Report {
        verdicts: Vec<Verdict>,
    }
    let client = GoClient::of(&SOURCES).await?;
    let report = client.run(&json!({ "script": script, "objects": objects })).await?;
    let Report { verdicts } = serde_json::from_value(report)?;
    Ok(verdicts)
}
