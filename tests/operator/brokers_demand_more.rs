//! Some brokers demand more of each call than the specification does. The provider says what they get.

use serde_json::json;
use servicekey_operator::api::Reason;
use testkit::broker::{FakeBroker, Rule};

use crate::{conditions::Reports, stage::Stage};

const NAME: &str = "monitoring-creds";

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_an_older_version_is_spoken_to_in_it() {
    let broker = FakeBroker::builder().api_version("2.13").tolerate(Rule::ApiVersion);
    let stage = Stage::set_with(broker.start().await.unwrap()).await;
    let _operator = stage.start_operator().await;
    stage.create_key(NAME).await;
    let provider = stage.wait_provider(Reason::InvalidSpec).await;
    provider.says(
        "it does not speak version 2.17 of the Open Service Broker API; set `openServiceBroker.apiVersion`",
    );

    stage.change_provider(json!({"openServiceBroker": {"apiVersion": "2.13"}})).await;
    stage.wait_for_provider("broker").await;
    stage.wait_ready_with_the_only_key(NAME).await;
    stage.delete_and_leave_nothing(NAME).await;
}
