//! `servicekey-operator check`: checks that the operator can run here, without running it.

mod outcome;
mod rights;
mod schema;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use futures::{StreamExt, stream};
use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    authorization::v1::{SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::Value;

use self::{outcome::CheckOutcome, rights::Right};
use super::run::Run;
use crate::{
    api::ClusterKeyProvider,
    runtime::{self, Metrics},
};

/// Access reviews in flight at the same time.
const CONCURRENCY: usize = 16;

/// Check that the operator can run here
///
/// Takes the same flags as `run`. It checks that the API server answers, that the custom resources of this version are
/// installed, and that the current user has all permissions that the operator needs with these flags. It changes
/// nothing. The exit code is 0 if all checks pass.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  servicekey-operator check --leader-elect
  kubectl auth can-i --list --as system:serviceaccount:servicekeys-system:servicekey-operator
  servicekey-operator check --namespaces training,staging")]
pub(super) struct CheckCommand {
    #[command(flatten)]
    run: Run,
}

impl CheckCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build();
        threads.context("can't start the runtime")?.block_on(self.all())
    }

    async fn all(self) -> anyhow::Result<()> {
        let config = Config::infer().await.context(super::run::NO_CLUSTER)?;
        let address = config.cluster_url.to_string();
        let client = runtime::client(config, &Metrics::default())
            .context("can't create a client from the cluster's configuration")?;
        let version = client.apiserver_version().await.map_err(in_words);
        let version = version.with_context(|| format!("the API server at `{address}` does not answer"))?;
        let mut outcomes = vec![CheckOutcome::Passed(format!(
            "the API server at `{address}` answers: Kubernetes {}",
            version.git_version
        ))];
        let user = user(&client).await?;
        outcomes.extend(definitions(&client).await?);
        outcomes.extend(permissions(&client, &self.run, &user).await?);
        outcomes.extend(trusted_profiles(&client, &self.run).await);
        outcome::print(&outcomes);
        match outcomes.iter().filter(|outcome| matches!(outcome, CheckOutcome::Failed(_))).count() {
            0 => Ok(()),
            1 => bail!("1 check failed"),
            failed => bail!("{failed} checks failed"),
        }
    }
}

/// The error with the API server's own message, without a dump of the answer.
fn in_words(error: kube::Error) -> anyhow::Error {
    anyhow!(runtime::words(&error))
}

/// The name of the current user.
async fn user(client: &Client) -> anyhow::Result<String> {
    let review = Api::<SelfSubjectReview>::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .map_err(in_words)
        .context("the API server does not return the name of the current user")?;
    let user = review.status.and_then(|status| status.user_info);
    Ok(user.and_then(|user| user.username).unwrap_or_else(|| "unknown".to_owned()))
}

/// Checks that the custom resources of this version are installed.
async fn definitions(client: &Client) -> anyhow::Result<Vec<CheckOutcome>> {
    let request = http::Request::get(schema::PUBLISHED).body(Vec::new())?;
    match client.request::<Value>(request).await {
        Ok(published) => Ok(schema::compare(&published)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(vec![CheckOutcome::Failed(
            "the custom resources are not installed; apply the output of `servicekey-operator crds`"
                .to_owned(),
        )]),
        Err(error) => {
            Err(in_words(error)).context("the API server does not return the schemas of the custom resources")
        }
    }
}

/// Checks that there is a token if a ClusterKeyProvider uses a trusted profile. The operator's pod has the token.
async fn trusted_profiles(client: &Client, run: &Run) -> Option<CheckOutcome> {
    if run.namespaces().is_some() {
        return None;
    }
    // If the user may not list them, the check of the permissions has already reported it.
    let providers = Api::<ClusterKeyProvider>::all(client.clone()).list(&ListParams::default()).await.ok()?;
    let names_profile = |provider: &&ClusterKeyProvider| {
        let ibm_cloud = provider.spec.provider.ibm_cloud.as_ref();
        ibm_cloud.is_some_and(|ibm_cloud| ibm_cloud.auth.trusted_profile.is_some())
    };
    let provider = providers.iter().find(names_profile)?.name_any();
    let file = run.service_account_token();
    let shown = file.display();
    Some(if tokio::fs::metadata(file).await.is_ok() {
        CheckOutcome::Passed(format!("the token for trusted profiles is in `{shown}`"))
    } else {
        CheckOutcome::Note(format!(
            "ClusterKeyProvider `{provider}` logs in with a trusted profile, but there is no service account token in \
             `{shown}`; if this is the operator's pod, set the chart value `ibmCloud.trustedProfiles.enabled: true`, \
             or apply `deploy/kustomize/trusted-profiles`"
        ))
    })
}

/// Checks that `user`, the current user, has all permissions that the operator needs.
async fn permissions(client: &Client, run: &Run, user: &str) -> anyhow::Result<Vec<CheckOutcome>> {
    let needed = rights::needed(&run.namespaces(), run.elects_in());
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let granted: Vec<(Right, bool)> = stream::iter(needed)
        .map(async |right| {
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(right.attributes()),
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let answer = reviews.create(&PostParams::default(), &review).await.map_err(in_words)?;
            anyhow::Ok((right, answer.status.is_some_and(|status| status.allowed)))
        })
        .buffered(CONCURRENCY)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<anyhow::Result<_>>()
        .context("the API server does not answer access reviews")?;
    let missing: Vec<_> = granted.iter().filter(|(_, granted)| !granted).map(|(right, _)| right).collect();
    if missing.is_empty() {
        return Ok(vec![CheckOutcome::Passed(format!(
            "`{user}` has all {} permissions that the operator needs",
            granted.len()
        ))]);
    }
    Ok(missing
        .into_iter()
        .map(|right| {
            CheckOutcome::Failed(format!("`{user}` may not {right}; bind the operator's role to it"))
        })
        .collect())
}
