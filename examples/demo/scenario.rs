//! The tour, step by step. All output was read from the API server or the broker just before. The demo also checks the
//! results, so a demo that ends well is a passed test.

use std::{
    future,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use servicekey_operator::api::{ClusterKeyProvider, ServiceKey};
use testkit::broker::Route;

use crate::{
    Cli,
    broker::HeldKey,
    login::{self, Login},
    manifests::{self, KEY, KEY_WITH_TEMPLATE, LOGIN, NAMESPACES, PROVIDER},
    output::{self, Steps},
    stage::Stage,
    timings::{self, Times},
    watch::{Conditioned, Objects, Watch},
};

/// The namespace of the ServiceKeys, as in the manifests.
const NAMESPACE: &str = "training";
/// The main ServiceKey of the tour, and its Secret.
const NAME: &str = "monitoring-creds";
/// All ServiceKeys. The second one has a template for its Secret.
const NAMES: [&str; 2] = [NAME, "postgres-exporter"];
/// The entry that the tour overwrites.
const ENTRY: &str = "password";

/// Plays the whole tour. With `--keep` it runs until Ctrl-C.
///
/// # Errors
/// If a step fails, or a check does not pass.
pub async fn play(cli: &Cli) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut steps = Steps::default();
    let stage = Stage::set(&mut steps, cli.broker, cli.port).await?;
    let mut tour = Tour::new(cli, &stage, steps);
    tour.apply_provider().await?;
    tour.apply_keys().await?;
    tour.log_in().await?;
    tour.edit_secret().await?;
    tour.delete_secret().await?;
    tour.measure(cli.keys).await?;
    if cli.keep {
        tour.times.show();
        tell_what_to_try(&stage)?;
        return future::pending().await;
    }
    tour.delete_keys().await?;
    let times = tour.times;
    stage.strike().await?;
    times.show();
    output::blank();
    output::line(format_args!("The whole tour took {}.", output::time(began.elapsed())));
    Ok(())
}

/// The state that the steps share.
struct Tour<'a> {
    stage: &'a Stage,
    client: Client,
    keys: Api<ServiceKey>,
    secrets: Api<Secret>,
    show_secrets: bool,
    steps: Steps,
    times: Times,
    /// The logins in the Secrets, if there is a database.
    logins: Vec<Login>,
}

impl<'a> Tour<'a> {
    fn new(cli: &Cli, stage: &'a Stage, steps: Steps) -> Self {
        let client = stage.client();
        Self {
            stage,
            keys: Api::namespaced(client.clone(), NAMESPACE),
            secrets: Api::namespaced(client.clone(), NAMESPACE),
            client,
            show_secrets: cli.show_secrets,
            steps,
            times: Times::default(),
            logins: Vec::new(),
        }
    }

    async fn apply_provider(&mut self) -> anyhow::Result<()> {
        self.steps.begin("apply a provider: the source of keys, and the namespaces that may use it");
        for manifest in [NAMESPACES, LOGIN] {
            manifest.apply(&self.client).await?;
            tell_applied(manifest.file, "");
        }
        let url = self.stage.broker_url();
        let named = manifests::apply_provider(&self.client, &url).await?;
        tell_applied(PROVIDER.file, &format!(", with {url} for {named}"));
        let provider = PROVIDER.object::<ClusterKeyProvider>()?.name_any();
        let providers = Api::<ClusterKeyProvider>::all(self.client.clone());
        let mut watch = Watch::of_one(&providers, &provider).await?;
        let shown = watch.until("the provider is ready", |providers| ready(providers, &[&provider])).await?;
        show_conditions(shown.iter().flat_map(Conditioned::conditions));
        Ok(())
    }

    async fn apply_keys(&mut self) -> anyhow::Result<()> {
        self.steps.begin("apply two ServiceKeys for one database");
        let mut watch = Watch::of_all(&self.keys, "").await?;
        let began = Instant::now();
        for manifest in [KEY, KEY_WITH_TEMPLATE] {
            manifest.apply(&self.client).await?;
            tell_applied(manifest.file, "");
        }
        let keys = watch.until("both ServiceKeys are ready", |keys| ready(keys, &NAMES)).await?;
        output::detail(format_args!("both were ready after {}", output::time(began.elapsed())));
        for key in keys {
            let name = key.name_any();
            output::blank();
            output::detail(format_args!("ServiceKey `{name}`"));
            show_conditions(key.conditions());
            self.show_secret(&name).await?;
        }
        self.show_broker().await
    }

    /// With a real database only.
    async fn log_in(&mut self) -> anyhow::Result<()> {
        if self.stage.database().is_some() {
            self.steps.begin("log in to the database with the credentials in the Secrets");
            for name in NAMES {
                self.logins.push(Login::of(&self.secrets.get(name).await?)?);
            }
            login::show(&self.logins).await?;
        }
        Ok(())
    }

    async fn edit_secret(&mut self) -> anyhow::Result<()> {
        self.steps.begin(format_args!("edit the Secret `{NAME}`: overwrite `{ENTRY}`"));
        let before = self.secrets.get(NAME).await?;
        let mut watch = Watch::of_one(&self.secrets, NAME).await?;
        let patch = Patch::Merge(json!({"data": {ENTRY: ByteString(b"overwritten by hand".to_vec())}}));
        let (asked, began) = (self.questions(), Instant::now());
        let edited = self.secrets.patch(NAME, &PatchParams::default(), &patch).await?;
        ensure!(edited.data != before.data, "the edit of the Secret `{NAME}` changed nothing");
        let versions = [before.resource_version(), edited.resource_version()];
        let repaired = |secrets: &Objects<Secret>| {
            let secret = secrets.get(NAME)?;
            (secret.data == before.data && !versions.contains(&secret.resource_version())).then_some(())
        };
        watch.until("the Secret is repaired", repaired).await?;
        self.tell_repaired("edit a Secret → repaired", began.elapsed(), asked)
    }

    async fn delete_secret(&mut self) -> anyhow::Result<()> {
        self.steps.begin(format_args!("delete the Secret `{NAME}`"));
        let before = self.secrets.get(NAME).await?;
        let mut watch = Watch::of_one(&self.secrets, NAME).await?;
        let (asked, began) = (self.questions(), Instant::now());
        self.secrets.delete(NAME, &DeleteParams::default()).await?;
        let back = |secrets: &Objects<Secret>| {
            let secret = secrets.get(NAME)?;
            (secret.data == before.data && secret.uid() != before.uid()).then_some(())
        };
        watch.until("the Secret is back", back).await?;
        self.tell_repaired("delete a Secret → back", began.elapsed(), asked)
    }

    async fn measure(&mut self, keys: u16) -> anyhow::Result<()> {
        if keys > 0 {
            self.steps.begin("measure times with more ServiceKeys");
            timings::measure(&self.keys, usize::from(keys), &mut self.times).await?;
        }
        Ok(())
    }

    async fn delete_keys(&mut self) -> anyhow::Result<()> {
        self.steps.begin("delete both ServiceKeys");
        let mut watch = Watch::of_all(&self.keys, "").await?;
        for name in NAMES {
            self.keys.delete(name, &DeleteParams::default()).await?;
        }
        watch.until("both ServiceKeys are gone", |keys| keys.is_empty().then_some(())).await?;
        for name in NAMES {
            let secret = self.secrets.get_metadata_opt(name).await?;
            ensure!(secret.is_none(), "the ServiceKey `{name}` is gone, but its Secret still exists");
            output::detail(format_args!("the ServiceKey `{name}` and its Secret are gone"));
        }
        login::show_refused(&self.logins).await?;
        self.show_broker().await?;
        let left = self.stage.broker_keys().await?.len();
        ensure!(left == 0, "all ServiceKeys are gone, but the broker still has {left} keys");
        Ok(())
    }

    /// The number of requests to the broker to create a key, and to read one.
    fn questions(&self) -> [usize; 2] {
        [Route::Bind, Route::Fetch].map(|route| self.stage.broker_calls(route))
    }

    fn tell_repaired(&mut self, what: &str, time: Duration, before: [usize; 2]) -> anyhow::Result<()> {
        let ([made, read], [made_before, read_before]) = (self.questions(), before);
        output::detail(format_args!("repaired after {}, with the same credentials", output::time(time)));
        output::detail(format_args!(
            "calls to the broker: {} to read the key, {} to create one",
            read - read_before,
            made - made_before
        ));
        ensure!(made == made_before, "the operator created another key to repair a Secret");
        self.times.add(what, time, "once");
        Ok(())
    }

    async fn show_secret(&self, name: &str) -> anyhow::Result<()> {
        let secret =
            self.secrets.get(name).await.with_context(|| format!("can't read the Secret `{name}`"))?;
        let entries = secret.data.unwrap_or_default();
        let rows: Vec<_> = entries.into_iter().map(|(entry, value)| [entry, self.shown(&value)]).collect();
        output::table(["ENTRY OF THE SECRET", "VALUE"], &rows);
        Ok(())
    }

    fn shown(&self, ByteString(value): &ByteString) -> String {
        if self.show_secrets {
            String::from_utf8_lossy(value).into_owned()
        } else {
            format!("•••••••• ({} bytes)", value.len())
        }
    }

    /// Prints the broker's keys, and the number of calls so far.
    async fn show_broker(&self) -> anyhow::Result<()> {
        let row = |HeldKey { number, binding, instance }| [number.to_string(), binding, instance];
        let rows: Vec<_> = self.stage.broker_keys().await?.into_iter().map(row).collect();
        let calls = |route| self.stage.broker_calls(route);
        output::blank();
        output::detail(format_args!(
            "The broker has {} (calls so far: {} to create a key, {} to revoke one)",
            match rows.len() {
                0 => "no key".to_owned(),
                1 => "1 key".to_owned(),
                number => format!("{number} keys"),
            },
            calls(Route::Bind),
            calls(Route::Unbind)
        ));
        if !rows.is_empty() {
            output::table(["NUMBER", "BINDING", "INSTANCE"], &rows);
        }
        Ok(())
    }
}

fn tell_applied(file: &str, how: &str) {
    output::detail(format_args!("applied `examples/manifests/{file}`{how}"));
}

fn tell_what_to_try(stage: &Stage) -> anyhow::Result<()> {
    let kubeconfig = stage.kubeconfig()?;
    output::title("Everything keeps running; try it in another terminal");
    for command in [
        &format!("export KUBECONFIG={kubeconfig}"),
        "kubectl get servicekeys -A",
        &format!("kubectl -n {NAMESPACE} describe skey {NAME}"),
        &format!("kubectl -n {NAMESPACE} get secret {NAME} -o yaml"),
        &format!("kubectl -n {NAMESPACE} delete secret {NAME}   # it comes back"),
        "kubectl explain servicekey.spec",
    ] {
        output::command(command);
    }
    if stage.database().is_some() {
        let [_, templated] = NAMES;
        output::command(format_args!(
            "psql \"$(kubectl -n {NAMESPACE} get secret {templated} -o go-template='{{{{.data.DATA_SOURCE_NAME | base64decode}}}}')\""
        ));
    }
    output::blank();
    output::line("Ctrl-C stops everything.");
    Ok(())
}

/// The objects of these names, once all of them are ready.
fn ready<K: Conditioned + Clone>(objects: &Objects<K>, names: &[&str]) -> Option<Vec<K>> {
    names.iter().map(|name| objects.get(*name).filter(|object| object.is_ready()).cloned()).collect()
}

fn show_conditions<'a>(conditions: impl IntoIterator<Item = &'a Condition>) {
    let rows: Vec<_> = conditions
        .into_iter()
        .map(|Condition { type_, status, reason, message, .. }| {
            [type_, status, reason, message].map(ToString::to_string)
        })
        .collect();
    output::table(["CONDITION", "STATUS", "REASON", "MESSAGE"], &rows);
}
