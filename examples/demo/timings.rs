//! Measures times with a client that watches the ServiceKeys, and prints all of them.

use std::{
    future,
    time::{Duration, Instant},
};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use servicekey_operator::api::ServiceKey;

use crate::{
    manifests::KEY,
    output,
    watch::{Conditioned, Objects, Watch},
};

/// The number of keys created and deleted one after the other.
const ONE_BY_ONE: usize = 10;
/// Requests in flight while many keys are created at once. With more, the times would include TLS handshakes.
const IN_FLIGHT: usize = 16;
/// The label of the measured keys.
const LABEL: (&str, &str) = ("example.com/purpose", "timing");

/// All times, each with the way it was measured.
#[derive(Debug, Default)]
pub struct Times(Vec<[String; 3]>);

impl Times {
    pub fn add(&mut self, what: impl Into<String>, time: Duration, how: impl Into<String>) {
        self.0.push([what.into(), output::time(time), how.into()]);
    }

    /// Prints all times.
    pub fn show(&self) {
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        output::title(format_args!(
            "Times of this {build} build, measured by a client of this control plane"
        ));
        output::table(["WHAT", "TIME", "MEASURED"], &self.0);
        output::detail("(etcd does not flush to disk here, and all connections use the loopback interface)");
    }
}

/// Measures with one key at a time, and with this many at once.
///
/// # Errors
/// If the API server fails, or the operator takes too long.
pub async fn measure(api: &Api<ServiceKey>, many: usize, times: &mut Times) -> anyhow::Result<()> {
    let mut observed = Observed::open(api.clone()).await?;
    let (mut created, mut deleted) = (Vec::new(), Vec::new());
    for number in 0..ONE_BY_ONE {
        let name = format!("timing-one-{number}");
        created.push(observed.create(&name).await?);
        deleted.push(observed.delete(&name).await?);
    }
    let (ready, gone) = (median(created), median(deleted));
    output::detail(format_args!(
        "{ONE_BY_ONE} ServiceKeys, one after the other: ready after {}, gone after {}",
        output::time(ready),
        output::time(gone)
    ));
    let how = format!("median of {ONE_BY_ONE}, one after the other");
    times.add("create → Ready, 1 ServiceKey", ready, &how);
    times.add("delete → gone, 1 ServiceKey", gone, &how);

    let (ready, gone) = (observed.create_all(many).await?, observed.delete_all().await?);
    output::detail(format_args!(
        "{many} ServiceKeys at once: the last one ready after {}, gone after {}",
        output::time(ready),
        output::time(gone)
    ));
    times.add(format!("create → Ready, {many} ServiceKeys at once"), ready, "once, until the last one");
    times.add(format!("delete → gone, {many} ServiceKeys at once"), gone, "once, until the last one");
    Ok(())
}

/// The measured keys, observed by a watch.
struct Observed {
    api: Api<ServiceKey>,
    watch: Watch<ServiceKey>,
}

impl Observed {
    async fn open(api: Api<ServiceKey>) -> anyhow::Result<Self> {
        Ok(Self { watch: Watch::of_all(&api, &selector()).await?, api })
    }

    async fn create(&mut self, name: &str) -> anyhow::Result<Duration> {
        let key = key(name)?;
        let began = Instant::now();
        self.api.create(&PostParams::default(), &key).await?;
        self.watch.until(&format!("`{name}` is ready"), |keys| ready(keys, 1)).await?;
        Ok(began.elapsed())
    }

    async fn delete(&mut self, name: &str) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.api.delete(name, &DeleteParams::default()).await?;
        self.watch.until(&format!("`{name}` is gone"), gone).await?;
        Ok(began.elapsed())
    }

    async fn create_all(&mut self, many: usize) -> anyhow::Result<Duration> {
        let keys = (0..many).map(|number| key(&format!("timing-many-{number}")));
        let keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
        let (api, what) = (&self.api, format!("{many} ServiceKeys are ready"));
        let began = Instant::now();
        let create = stream::iter(&keys)
            .map(|key| async { api.create(&PostParams::default(), key).await })
            .buffer_unordered(IN_FLIGHT)
            .try_for_each(|_| future::ready(Ok(())));
        let create = async { create.await.context("can't create a ServiceKey") };
        tokio::try_join!(create, self.watch.until(&what, |keys| ready(keys, many)))?;
        Ok(began.elapsed())
    }

    async fn delete_all(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let all = ListParams::default().labels(&selector());
        self.api.delete_collection(&DeleteParams::default(), &all).await?;
        self.watch.until("all measured ServiceKeys are gone", gone).await?;
        Ok(began.elapsed())
    }
}

fn ready(keys: &Objects<ServiceKey>, number: usize) -> Option<()> {
    (keys.values().filter(|key| key.is_ready()).count() == number).then_some(())
}

fn gone(keys: &Objects<ServiceKey>) -> Option<()> {
    keys.is_empty().then_some(())
}

/// A key like the one in the manifest.
fn key(name: &str) -> anyhow::Result<ServiceKey> {
    let ServiceKey { metadata, spec, status } = KEY.object()?;
    let labels = [(LABEL.0.to_owned(), LABEL.1.to_owned())].into();
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..metadata };
    Ok(ServiceKey { metadata, spec, status })
}

fn selector() -> String {
    format!("{}={}", LABEL.0, LABEL.1)
}

/// The median: the middle time, or the mean of the two in the middle.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let middle = times.len() / 2;
    if times.len().is_multiple_of(2) { (times[middle - 1] + times[middle]) / 2 } else { times[middle] }
}
