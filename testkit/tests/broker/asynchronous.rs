//! Binds and unbinds that take time.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::broker::{FakeBroker, Fault, Pace, Route, Rule, StatusCode, Work};
use uuid::Uuid;

use crate::client::{Fixture, INSTANCE, answer, start_with};

async fn at(pace: Pace) -> Result<Fixture> {
    start_with(FakeBroker::builder().pace(pace)).await
}

fn token_of(accepted: &Value) -> Option<&str> {
    accepted["operation"].as_str()
}

impl Fixture {
    /// Begins a bind, and returns its token.
    async fn begin_bind(&self, id: Uuid) -> Result<String> {
        let (status, accepted) = answer(self.bind_in_time(id)?.send().await?).await?;
        assert_eq!(status, 202);
        Ok(token_of(&accepted).context("a token")?.to_owned())
    }

    /// Begins an unbind, and returns its token.
    async fn begin_unbind(&self, id: Uuid) -> Result<String> {
        let (status, accepted) = answer(self.unbind_in_time(id)?.send().await?).await?;
        assert_eq!(status, 202);
        Ok(token_of(&accepted).context("a token")?.to_owned())
    }

    /// The status and the state in the answer to a poll.
    async fn state(&self, id: Uuid, token: &str) -> Result<(u16, Value)> {
        let (status, mut body) = answer(self.poll(id, Some(token))?.send().await?).await?;
        Ok((status, body["state"].take()))
    }

    async fn error(&self, request: reqwest::RequestBuilder) -> Result<(u16, Value)> {
        let (status, mut body) = answer(request.send().await?).await?;
        Ok((status, body["error"].take()))
    }
}

#[tokio::test]
async fn a_binding_is_made_and_deleted_in_as_many_polls_as_it_says() -> Result<()> {
    let it = at(Pace::polls(2)).await?;
    let id = Uuid::new_v4();
    let bind = it.begin_bind(id).await?;
    for _ in 0..2 {
        assert_eq!(it.state(id, &bind).await?, (200, json!("in progress")));
        assert_eq!(it.broker.bindings(), []);
        assert_eq!(it.fetch(id).send().await?.status(), 404);
    }
    for _ in 0..2 {
        assert_eq!(it.state(id, &bind).await?, (200, json!("succeeded")));
    }
    let (status, fetched) = answer(it.fetch(id).send().await?).await?;
    let [binding] = it.broker.bindings().try_into().ok().context("one binding lives")?;
    assert_eq!((status, &fetched["credentials"]), (200, &Value::Object(binding.credentials)));
    assert_eq!(it.bind_in_time(id)?.send().await?.status(), 200, "it exists by now");

    let unbind = it.begin_unbind(id).await?;
    assert_ne!(bind, unbind);
    for _ in 0..2 {
        assert_eq!(it.state(id, &unbind).await?, (200, json!("in progress")));
        assert_eq!(it.broker.bindings().len(), 1);
        assert_eq!(it.fetch(id).send().await?.status(), 404);
    }
    assert_eq!(it.state(id, &unbind).await?, (200, json!("succeeded")));
    assert_eq!(it.broker.bindings(), []);
    assert_eq!(it.state(id, &unbind).await?, (410, Value::Null), "it is gone");
    assert_eq!(it.unbind_in_time(id)?.send().await?.status(), 410);
    Ok(())
}

#[tokio::test]
async fn an_operation_lasts_until_the_test_ends_it() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    let token = it.begin_bind(one).await?;
    it.begin_bind(two).await?;
    for _ in 0..5 {
        assert_eq!(it.state(one, &token).await?, (200, json!("in progress")));
    }
    let seen = it.broker.wait_for_work(|open| open.len() == 2).await?;
    assert_eq!((seen[0].work, seen[0].binding, seen[0].polls), (Work::Bind, one, 5));
    assert_eq!((seen[0].instance.as_str(), seen[0].token.as_ref()), (INSTANCE, Some(&token)));
    assert_eq!((seen[1].binding, seen[1].polls), (two, 0));

    assert!(it.broker.finish(one));
    assert!(!it.broker.finish(one), "it has ended");
    assert_eq!(it.state(one, &token).await?, (200, json!("succeeded")));
    assert_eq!(it.broker.bindings().len(), 1);
    assert_eq!(it.broker.finish_all(), 1);
    assert_eq!(it.broker.bindings().len(), 2);
    assert_eq!(it.broker.under_way(), []);
    Ok(())
}

#[tokio::test]
async fn a_bind_that_fails_says_why_and_leaves_nothing() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let id = Uuid::new_v4();
    let token = it.begin_bind(id).await?;
    assert!(it.broker.fail(id, "the disk is full"));
    for _ in 0..2 {
        let told = answer(it.poll(id, Some(&token))?.send().await?).await?;
        assert_eq!(told, (200, json!({ "state": "failed", "description": "the disk is full" })));
    }
    assert_eq!(it.broker.bindings(), []);
    assert_eq!(it.unbind_in_time(id)?.send().await?.status(), 410);
    assert!(!it.broker.fail(id, "again"));
    assert_ne!(it.begin_bind(id).await?, token, "it can be tried again");
    Ok(())
}

#[tokio::test]
async fn a_bind_that_fails_can_leave_an_orphan() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let id = Uuid::new_v4();
    let token = it.begin_bind(id).await?;
    assert!(it.broker.fail_with_orphan(id, "the network is down"));
    assert_eq!(it.state(id, &token).await?, (200, json!("failed")));
    let [orphan] = it.broker.bindings().try_into().ok().context("one binding takes up room")?;
    assert!(orphan.orphan);
    assert_eq!(it.fetch(id).send().await?.status(), 404);
    assert_eq!(it.bind_in_time(id)?.send().await?.status(), 409);

    let token = it.begin_unbind(id).await?;
    assert!(!it.broker.fail_with_orphan(id, "an unbind makes nothing"));
    assert!(it.broker.finish(id));
    assert_eq!(it.state(id, &token).await?, (200, json!("succeeded")));
    assert_eq!(it.broker.bindings(), []);
    Ok(())
}

#[tokio::test]
async fn an_unbind_that_fails_leaves_the_binding() -> Result<()> {
    let it = at(Pace::until_told().only(Work::Unbind)).await?;
    let id = Uuid::new_v4();
    assert_eq!(it.bind_in_time(id)?.send().await?.status(), 201, "binds are made at once");
    let token = it.begin_unbind(id).await?;
    assert!(it.broker.fail(id, "it is in use"));
    assert_eq!(it.state(id, &token).await?, (200, json!("failed")));
    assert_eq!(it.broker.bindings().len(), 1);
    assert_eq!(it.fetch(id).send().await?.status(), 200);
    assert_ne!(it.begin_unbind(id).await?, token);
    Ok(())
}

#[tokio::test]
async fn a_request_again_joins_what_is_under_way() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let id = Uuid::new_v4();
    let token = it.begin_bind(id).await?;
    assert_eq!(it.begin_bind(id).await?, token);
    assert_eq!(it.error(it.bind(id)?).await?, (422, json!("ConcurrencyError")));
    let mut body = it.body()?;
    body["parameters"] = json!({ "permissions": "all" });
    assert_eq!(it.bind_in_time(id)?.json(&body).send().await?.status(), 409);
    assert!(it.broker.finish(id));

    let token = it.begin_unbind(id).await?;
    assert_eq!(it.begin_unbind(id).await?, token);
    assert_eq!(it.error(it.unbind(id)?).await?, (422, json!("ConcurrencyError")));
    assert_eq!(it.broker.finish_all(), 1);
    assert_eq!(it.broker.bindings(), []);
    Ok(())
}

#[tokio::test]
async fn a_bind_and_an_unbind_do_not_meet() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let id = Uuid::new_v4();
    it.begin_bind(id).await?;
    for unbind in [it.unbind(id)?, it.unbind_in_time(id)?] {
        assert_eq!(it.error(unbind).await?, (422, json!("ConcurrencyError")));
    }
    assert!(it.broker.finish(id));
    it.begin_unbind(id).await?;
    for bind in [it.bind(id)?, it.bind_in_time(id)?] {
        assert_eq!(it.error(bind).await?, (422, json!("ConcurrencyError")));
    }
    assert_eq!(it.broker.bindings().len(), 1);
    Ok(())
}

#[tokio::test]
async fn who_does_not_accept_what_takes_time_is_served_at_once_or_refused() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let id = Uuid::new_v4();
    assert_eq!(it.bind(id)?.send().await?.status(), 201);
    assert_eq!(it.unbind(id)?.send().await?.status(), 200);

    it.broker.change_pace(Pace::until_told().required());
    assert_eq!(it.error(it.bind(id)?).await?, (422, json!("AsyncRequired")));
    assert_eq!(it.broker.under_way(), []);
    it.begin_bind(id).await?;
    assert_eq!(it.error(it.bind(id)?).await?, (422, json!("AsyncRequired")));
    assert!(it.broker.finish(id));
    assert_eq!(it.bind(id)?.send().await?.status(), 200, "nothing is left to wait for");
    assert_eq!(it.error(it.unbind(id)?).await?, (422, json!("AsyncRequired")));
    assert_eq!(it.broker.bindings().len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_is_done_at_once_leaves_nothing_to_poll() -> Result<()> {
    let it = at(Pace::polls(0).only(Work::Bind)).await?;
    let id = Uuid::new_v4();
    let token = it.begin_bind(id).await?;
    assert_eq!(it.state(id, &token).await?, (200, json!("succeeded")));
    assert_eq!(it.unbind_in_time(id)?.send().await?.status(), 200);
    it.breaks(Rule::UnderWay, 404, it.poll(id, Some(&token))?).await
}

#[tokio::test]
async fn a_poll_repeats_the_token_of_the_last_operation() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let id = Uuid::new_v4();
    let bind = it.begin_bind(id).await?;
    for wrong in [None, Some("task"), Some(&*bind.to_uppercase())] {
        it.breaks(Rule::OperationToken, 400, it.poll(id, wrong)?).await?;
    }
    it.breaks(Rule::Query, 400, it.poll(id, Some(""))?).await?;
    it.breaks(Rule::UnderWay, 404, it.poll(Uuid::new_v4(), Some(&bind))?).await?;
    assert!(it.broker.finish(id));
    let unbind = it.begin_unbind(id).await?;
    it.breaks(Rule::OperationToken, 400, it.poll(id, Some(&bind))?).await?;
    assert_eq!(it.state(id, &unbind).await?, (200, json!("in progress")));
    Ok(())
}

#[tokio::test]
async fn tokens_can_be_left_out() -> Result<()> {
    let it = at(Pace::polls(1).without_tokens()).await?;
    let id = Uuid::new_v4();
    assert_eq!(answer(it.bind_in_time(id)?.send().await?).await?, (202, json!({})));
    it.breaks(Rule::OperationToken, 400, it.poll(id, Some("task"))?).await?;
    for state in ["in progress", "succeeded"] {
        assert_eq!(answer(it.poll(id, None)?.send().await?).await?.1["state"], state);
    }
    Ok(())
}

#[tokio::test]
async fn tokens_can_be_as_long_as_the_specification_allows() -> Result<()> {
    let it = at(Pace::polls(0).tokens(|number| format!("{number:0>10000}"))).await?;
    let id = Uuid::new_v4();
    let token = it.begin_bind(id).await?;
    assert_eq!(token.len(), 10_000);
    assert_eq!(it.state(id, &token).await?, (200, json!("succeeded")));
    assert!(!format!("{:?}", Pace::until_told().tokens(|_| "token-1".into())).contains("token-1"));
    Ok(())
}

#[tokio::test]
async fn clients_can_be_asked_for_patience() -> Result<()> {
    for value in ["7", "-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "99999999999999999999"] {
        let it = at(Pace::polls(1).retry_after(value)).await?;
        let id = Uuid::new_v4();
        let accepted = it.bind_in_time(id)?.send().await?;
        assert_eq!(accepted.headers()["retry-after"], value);
        let (_, accepted) = answer(accepted).await?;
        let poll = || it.poll(id, token_of(&accepted));
        assert_eq!(poll()?.send().await?.headers()["retry-after"], value);
        assert_eq!(poll()?.send().await?.headers().get("retry-after"), None, "it has ended");
    }
    Ok(())
}

#[tokio::test]
async fn a_deleted_binding_can_be_gone_without_a_last_word() -> Result<()> {
    let it = at(Pace::polls(0).forgetting_unbinds()).await?;
    let id = Uuid::new_v4();
    it.bind(id)?.send().await?.error_for_status()?;
    let token = it.begin_unbind(id).await?;
    assert_eq!(it.state(id, &token).await?, (410, Value::Null));
    assert_eq!(it.broker.bindings(), []);
    Ok(())
}

#[tokio::test]
async fn a_bind_whose_instance_vanishes_fails() -> Result<()> {
    let it = at(Pace::polls(0)).await?;
    let id = Uuid::new_v4();
    let token = it.begin_bind(id).await?;
    assert!(it.broker.forget_instance(INSTANCE));
    assert_eq!(it.state(id, &token).await?, (200, json!("failed")));
    assert_eq!(it.broker.bindings(), []);
    Ok(())
}

#[tokio::test]
async fn what_is_under_way_keeps_its_pace() -> Result<()> {
    let it = at(Pace::polls(0)).await?;
    let id = Uuid::new_v4();
    let token = it.begin_bind(id).await?;
    it.broker.change_pace(Pace::at_once());
    assert_eq!(it.begin_bind(id).await?, token);
    assert_eq!(it.state(id, &token).await?, (200, json!("succeeded")));
    assert_eq!(it.unbind_in_time(id)?.send().await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn a_bind_can_begin_late() -> Result<()> {
    let it = at(Pace::until_told()).await?;
    let id = Uuid::new_v4();
    it.broker.inject(Fault::Late.on(Route::Bind));
    assert!(it.bind_in_time(id)?.send().await.is_err());
    assert_eq!(it.broker.under_way(), []);
    assert_eq!(it.broker.release_late(), 1);
    assert_eq!(it.broker.under_way().len(), 1);
    assert!(it.broker.finish(id));
    assert_eq!(it.broker.bindings().len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_answer_to_a_poll_can_get_lost() -> Result<()> {
    let it = at(Pace::polls(1)).await?;
    let id = Uuid::new_v4();
    let token = it.begin_bind(id).await?;
    let broken = Fault::Status(StatusCode::INTERNAL_SERVER_ERROR, json!({}));
    it.broker.inject(broken.on(Route::LastOperation));
    assert_eq!(it.state(id, &token).await?.0, 500);
    assert_eq!(it.broker.under_way()[0].polls, 0, "it did not come as far as that");
    assert_eq!(it.state(id, &token).await?, (200, json!("in progress")));

    it.broker.inject(Fault::Cut.on(Route::LastOperation).after_effect());
    assert!(it.poll(id, Some(&token))?.send().await.is_err());
    assert_eq!(it.broker.bindings().len(), 1);
    assert_eq!(it.state(id, &token).await?, (200, json!("succeeded")));
    Ok(())
}
