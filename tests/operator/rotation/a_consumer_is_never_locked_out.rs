//! A workload that reads its mounted Secret at each login is never refused, however often its key is rotated. The
//! overlap is longer than the delay until the volume contains the changed Secret.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use servicekey_operator::api::ServiceKey;
use tempfile::{NamedTempFile, TempDir};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_postgres::Config;

use crate::support::{
    database::{Database, log_in},
    rotation::sequence,
    stage::{PATIENCE, Stage, entries, wait},
    time::Time,
};

const NAME: &str = "monitoring-creds";
const ROTATIONS: u32 = 20;
const EVERY: Duration = Duration::from_secs(720 * 3600);
/// The overlap plus one second, because the status stores its end in whole seconds.
const OVERLAP: Duration = Duration::from_secs(24 * 3600 + 1);
/// The delay until the volume contains a changed Secret. A kubelet takes a minute or more.
const LAG: Duration = Duration::from_millis(100);
/// The pause of the workload between two logins.
const PAUSE: Duration = Duration::from_millis(20);

/// A workload with a volume. Both end when this is dropped.
struct Workload {
    diary: watch::Receiver<Diary>,
    _volume: TempDir,
    _tasks: JoinSet<()>,
}

/// What the workload has seen so far.
#[derive(Clone, Debug, Default)]
struct Diary {
    /// The users that it logged in as, in this order.
    users: Vec<String>,
    logins: u32,
    failures: Vec<String>,
}

impl Workload {
    /// Starts as soon as the volume contains the Secret, like a container.
    async fn start(stage: &Stage) -> Self {
        let volume = TempDir::new().unwrap();
        let file = volume.path().join("uri");
        show(&stage.secrets().get(NAME).await.unwrap(), &file);
        let (writer, diary) = watch::channel(Diary::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(stage.secrets(), file.clone()));
        tasks.spawn(log_in_again_and_again(file, writer));
        Self { diary, _volume: volume, _tasks: tasks }
    }

    /// Waits until the workload has logged in as this many different users.
    async fn wait_for_users(&mut self, count: usize) {
        let moved = self.diary.wait_for(|diary| diary.users.len() >= count);
        let moved = timeout(PATIENCE, moved).await.map(|moved| moved.is_ok());
        assert_eq!(moved, Ok(true), "the workload never saw {count} keys: {:?}", self.diary.borrow());
    }
}

/// Copies each version of the Secret into the volume after a delay.
async fn follow(secrets: Api<Secret>, file: PathBuf) {
    let mut changes = std::pin::pin!(watcher::watch_object(secrets, NAME).default_backoff());
    while let Some(secret) = changes.try_next().await.unwrap() {
        tokio::time::sleep(LAG).await;
        secret.iter().for_each(|secret| show(secret, &file));
    }
}

/// Replaces the file by the entry with its name, atomically like a kubelet.
fn show(secret: &Secret, file: &Path) {
    let entry = &entries(secret)[file.file_name().unwrap().to_str().unwrap()];
    let mut next = NamedTempFile::new_in(file.parent().unwrap()).unwrap();
    next.write_all(entry.as_bytes()).unwrap();
    next.persist(file).unwrap();
}

async fn log_in_again_and_again(file: PathBuf, diary: watch::Sender<Diary>) {
    loop {
        let login: Config = fs::read_to_string(&file).unwrap().parse().unwrap();
        let user = async { log_in(&login).await?.query_one("SELECT session_user::text", &[]).await }.await;
        diary.send_modify(|diary| {
            diary.logins += 1;
            match user {
                Ok(row) => diary.users.push(row.get(0)),
                Err(error) => diary.failures.push(error.to_string()),
            }
            diary.users.dedup();
        });
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_reads_its_volume_logs_in_through_twenty_rotations() {
    let stage = Stage::set().await;
    let database = Database::behind_a_provider("app", &stage).await;
    let time = Time::default();
    let _operator = stage.start_operator_by(time.clock()).await;
    let mut manifest = database.key_manifest(NAME, &stage);
    manifest["spec"]["rotation"] = json!({"every": "720h", "overlap": "24h"});
    stage.create::<ServiceKey>(manifest).await;
    stage.wait_ready(NAME).await;
    let mut workload = Workload::start(&stage).await;
    workload.wait_for_users(1).await;

    for number in 2..=ROTATIONS + 1 {
        time.pass(EVERY, &stage, NAME).await;
        let is_next = |key: &ServiceKey| sequence(key) == Some(number);
        wait(stage.keys(), NAME, "with the next key", |key| key.is_some_and(is_next)).await;
        workload.wait_for_users(usize::try_from(number).unwrap()).await;
        assert_eq!(database.roles().await.len(), 2, "the previous key works during the overlap");
        time.pass(OVERLAP, &stage, NAME).await;
        stage.wait_settled_with(number).await;
    }

    // A borrowed diary would block the writer and its thread, so clone it.
    let diary = workload.diary.borrow().clone();
    assert_eq!(diary.failures, [""; 0], "of {} logins", diary.logins);
    assert!(diary.logins > ROTATIONS, "{diary:?}");
    assert_eq!(database.roles().await, diary.users[diary.users.len() - 1..]);
}
