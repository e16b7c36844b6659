//! An operator that starts with existing ServiceKeys continues with every one of them.

use testkit::{
    Moment,
    gateway::{Method, Requests},
};

use crate::support::{process::Process, stage::Stage};

const KEYS: usize = 5;

/// The list of Secrets arrives last, so every ServiceKey waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_wait_for_the_caches_all_go_on() {
    let stage = Stage::set().await;
    for number in 1..=KEYS {
        stage.create_key(&format!("key-{number}")).await;
    }
    let gateway = stage.gateway().await;
    let secrets = gateway.gate(Requests::to(Method::GET, "secrets"), Moment::BeforeEffect);
    let watch_after_list =
        gateway.gate(Requests::to(Method::GET, "servicekeys").after(1), Moment::BeforeEffect);
    let _operator = Process::behind(gateway, &stage);
    watch_after_list.wait_for_arrival().await.unwrap();
    watch_after_list.release();
    secrets.release();
    stage.wait_all_ready(KEYS).await;
}
