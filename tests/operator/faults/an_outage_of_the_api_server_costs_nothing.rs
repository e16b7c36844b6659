//! The API server fails and returns while users create and delete ServiceKeys. Everything settles, and no key is
//! requested twice.

use kube::api::DeleteParams;
use testkit::{Moment, broker::Route};

use crate::support::{evidence::assert_holds, stage::Stage};

/// The number of ServiceKeys of each kind.
const EACH: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_answered_meanwhile_is_not_lost() {
    let mut stage = Stage::on_a_plane_of_its_own().await;
    let _operator = stage.start_operator().await;
    let [kept, leaving, coming] = ["kept", "leaving", "coming"].map(names);
    for name in kept.iter().chain(&leaving) {
        stage.create_key(name).await;
    }
    stage.wait_all_ready(2 * EACH).await;

    let binds = stage.broker.gate(Route::Bind, Moment::AfterEffect);
    let unbinds = stage.broker.gate(Route::Unbind, Moment::AfterEffect);
    for name in &leaving {
        stage.keys().delete(name, &DeleteParams::default()).await.unwrap();
    }
    for name in &coming {
        stage.create_key(name).await;
    }
    binds.wait_for_arrivals(EACH).await.unwrap();
    unbinds.wait_for_arrivals(EACH).await.unwrap();
    stage.plane.kill_api_server().await;
    binds.release();
    unbinds.release();
    stage.broker.wait_for_calls(|calls| calls.iter().all(|call| call.status.is_some())).await.unwrap();
    bring_back_the_api_server(&mut stage).await;

    for name in &leaving {
        stage.wait_gone(name).await;
    }
    assert_one_key_each(&stage, &[kept, coming].concat()).await;
    assert_eq!(stage.broker.count(Route::Bind), 3 * EACH);
}

/// No request is blocked: the API server fails during any of the operator's writes.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_was_writing_is_written() {
    let mut stage = Stage::on_a_plane_of_its_own().await;
    let _operator = stage.start_operator().await;
    let names = names("key");
    for name in &names {
        stage.create_key(name).await;
    }
    stage.broker.wait_until(|bindings| bindings.len() >= EACH / 2).await.unwrap();
    stage.plane.kill_api_server().await;
    bring_back_the_api_server(&mut stage).await;

    assert_one_key_each(&stage, &names).await;
    assert_eq!(stage.broker.count(Route::Bind), EACH);
}

fn names(kind: &str) -> Vec<String> {
    (1..=EACH).map(|number| format!("{kind}-{number}")).collect()
}

/// The connections of the old client ended with the API server.
async fn bring_back_the_api_server(stage: &mut Stage) {
    stage.plane.start_api_server().await.unwrap();
    stage.client = stage.plane.admin();
}

async fn assert_one_key_each(stage: &Stage, names: &[String]) {
    for name in names {
        let id = stage.wait_ready(name).await.status.unwrap().key.unwrap().id;
        let binding = stage.broker.binding(id.parse().unwrap()).unwrap();
        assert_holds(&stage.secrets().get(name).await.unwrap(), &binding);
    }
    assert_eq!(stage.broker.bindings().len(), names.len());
}
