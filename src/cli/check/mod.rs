//! `servicekey-operator check`: whether the operator could run here, found out without running it.

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

/// Reviews that are asked for at the same time.
const CONCURRENCY: usize = 16;

/// Check that the operator could run here
///
/// Takes the flags of `run`, and finds out whether the API server answers, whether the custom resources are installed
/// as this version knows them, and whether whoever asks may do all that the operator does with these flags. It changes
/// nothing. The exit code is 0 where all is well.
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
            .context("can't make a client of this configuration")?;
        let version = client.apiserver_version().await.map_err(in_words);
        let version = version.with_context(|| format!("the API server at `{address}` does not answer"))?;
        let mut outcomes = vec![CheckOutcome::Well(format!(
            "the API server at `{address}` answers: Kubernetes {}",
            version.git_version
        ))];
        let user = user(&client).await?;
        outcomes.extend(definitions(&client).await?);
        outcomes.extend(permissions(&client, &self.run, &user).await?);
        outcomes.extend(trusted_profiles(&client, &self.run).await);
        outcome::print(&outcomes);
        match outcomes.iter().filter(|outcome| matches!(outcome, CheckOutcome::Wrong(_))).count() {
            0 => Ok(()),
            1 => bail!("1 check failed"),
            failed => bail!("{failed} checks failed"),
        }
    }
}

/// The error in the API server's own words, without a dump of its answer.
fn in_words(error: kube::Error) -> anyhow::Error {
    anyhow!(runtime::words(&error))
}

/// Who asks.
async fn user(client: &Client) -> anyhow::Result<String> {
    let review = Api::<SelfSubjectReview>::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .map_err(in_words)
        .context("the API server does not say who asks")?;
    let user = review.status.and_then(|status| status.user_info);
    Ok(user.and_then(|user| user.username).unwrap_or_else(|| "nobody".to_owned()))
}

/// Whether the custom resources are there, in this version.
async fn definitions(client: &Client) -> anyhow::Result<Vec<CheckOutcome>> {
    let request = http::Request::get(schema::PUBLISHED).body(Vec::new())?;
    match client.request::<Value>(request).await {
        Ok(published) => Ok(schema::compare(&published)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(vec![CheckOutcome::Wrong(
            "the custom resources are not installed; apply what `servicekey-operator crds` prints".to_owned(),
        )]),
        Err(error) => {
            Err(in_words(error)).context("the API server does not say which custom resources there are")
        }
    }
}

/// Whether there is a token for the trusted profiles that ClusterKeyProviders name. It is in the operator's pod.
async fn trusted_profiles(client: &Client, run: &Run) -> Option<CheckOutcome> {
    if run.namespaces().is_some() {
        return None;
    }
    // Whoever may not list them has read so above.
    let providers = Api::<ClusterKeyProvider>::all(client.clone()).list(&ListParams::default()).await.ok()?;
    let names_profile = |provider: &&ClusterKeyProvider| {
        let ibm_cloud = provider.spec.provider.ibm_cloud.as_ref();
        ibm_cloud.is_some_and(|ibm_cloud| ibm_cloud.auth.trusted_profile.is_some())
    };
    let provider = providers.iter().find(names_profile)?.name_any();
    let file = run.service_account_token();
    let shown = file.display();
    Some(if tokio::fs::metadata(file).await.is_ok() {
        CheckOutcome::Well(format!("the token for trusted profiles is in `{shown}`"))
    } else {
        CheckOutcome::Odd(format!(
            "ClusterKeyProvider `{provider}` logs in by a trusted profile, and there is no service-account token in `{shown}` \
             here; if this is the operator's pod, set the chart value `ibmCloud.trustedProfiles.enabled: true`, or apply \
             `deploy/kustomize/trusted-profiles`"
        ))
    })
}

/// Whether `user`, who asks, may do what the operator does.
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
        .context("the API server does not say what may be done")?;
    let missing: Vec<_> = granted.iter().filter(|(_, granted)| !granted).map(|(right, _)| right).collect();
    if missing.is_empty() {
        return Ok(vec![CheckOutcome::Well(format!(
            "`{user}` has the {} rights that the operator needs",
            granted.len()
        ))]);
    }
    Ok(missing
        .into_iter()
        .map(|right| CheckOutcome::Wrong(format!("`{user}` may not {right}; bind the operator's role to it")))
        .collect())
}
