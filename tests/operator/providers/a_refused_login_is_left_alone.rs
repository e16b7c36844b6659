//! If a token server refuses a login, the operator tries it once for all keys, and not again for minutes unless it
//! changes. Servers lock accounts after a few wrong passwords.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use servicekey_operator::api::{KeyProvider, Reason};
use testkit::{
    cloud_foundry::{self, FakeCloudFoundry, Rule as FoundryRule},
    ibm_cloud::{self, FakeIbmCloud, Rule as IbmRule},
    token_server::{GrantRule, TokenServer},
};

use crate::support::{
    conditions::{Reports, wait_for},
    foundry::{FoundryStage, PASSWORD, by_password, key_of_foundry},
    ibm::{API_KEY, IbmStage, key_of_ibm},
    oauth,
    stage::{PATIENCE, Running, Stage},
};

/// The number of ServiceKeys that wait for the login.
const WAITING: usize = 20;

/// A remote side with a token server.
enum Side {
    Foundry(FoundryStage),
    Broker(Box<Stage>, TokenServer),
    Ibm(IbmStage),
}

impl Side {
    /// A remote side that refuses the provider's login.
    async fn set(kind: &str) -> Self {
        match kind {
            "foundry" => {
                let foundry = FakeCloudFoundry::builder().start().await.unwrap();
                foundry.tolerate(FoundryRule::Password);
                let wrong = json!({"username": "alice", "password": "wrong"});
                Self::Foundry(FoundryStage::logged_in_by(foundry, wrong, by_password()).await)
            }
            "broker" => {
                let tokens = TokenServer::builder().start().await.unwrap();
                tokens.tolerate(GrantRule::Client);
                let stage = oauth::stage(&tokens).await;
                stage.change_secret("broker-client", json!({"clientSecret": "wrong"})).await;
                Self::Broker(Box::new(stage), tokens)
            }
            _ => {
                let ibm = FakeIbmCloud::builder().start().await.unwrap();
                ibm.tolerate(IbmRule::Secret);
                let stage = IbmStage::set_with(ibm).await;
                stage.change_secret("ibm-login", json!({"apikey": "wrong"})).await;
                Self::Ibm(stage)
            }
        }
    }

    fn stage(&self) -> &Stage {
        match self {
            Self::Foundry(stage) => stage,
            Self::Broker(stage, _) => stage,
            Self::Ibm(stage) => stage,
        }
    }

    fn attempts(&self) -> usize {
        match self {
            Self::Foundry(stage) => stage.count(&[cloud_foundry::Route::Token]),
            Self::Broker(_, tokens) => tokens.requests(),
            Self::Ibm(stage) => stage.count(&[ibm_cloud::Route::Token]),
        }
    }

    const fn provider(&self) -> &'static str {
        match self {
            Self::Foundry(_) => "foundry",
            Self::Broker(..) => "broker",
            Self::Ibm(_) => "ibm",
        }
    }

    async fn create_keys(&self) {
        for number in 0..WAITING {
            let name = format!("creds-{number}");
            let manifest: Value = match self {
                Self::Foundry(_) => key_of_foundry(&name),
                Self::Broker(stage, _) => stage.key_manifest(&name),
                Self::Ibm(_) => key_of_ibm(&name),
            };
            self.stage().create::<servicekey_operator::api::ServiceKey>(manifest).await;
        }
    }

    async fn wait_refused(&self) -> KeyProvider {
        for number in 0..WAITING {
            self.stage().wait_key(&format!("creds-{number}"), Reason::Unauthorized).await;
        }
        wait_for(self.stage().api(), self.provider(), false, Reason::Unauthorized).await
    }

    async fn correct(&self) {
        let (secret, entries) = match self {
            Self::Foundry(_) => ("cf-login", json!({"password": PASSWORD})),
            Self::Broker(..) => ("broker-client", json!({"clientSecret": "client-secret"})),
            Self::Ibm(_) => ("ibm-login", json!({"apikey": API_KEY})),
        };
        self.stage().change_secret(secret, entries).await;
    }
}

/// Waits until the operator has reconciled this many objects.
async fn wait_reconciled(operator: &Running, count: usize) {
    let count = f64::from(u32::try_from(count).unwrap());
    let reconciled = async {
        while operator.total("servicekeys_reconciles_total") < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reconciled).await.unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn twenty_keys_and_two_restarts_cost_one_attempt(#[values("foundry", "broker", "ibm")] kind: &str) {
    let side = Side::set(kind).await;
    let operator = side.stage().start_operator().await;
    side.create_keys().await;
    let provider = side.wait_refused().await;
    provider.says("the operator tries again when the login changes, otherwise three times an hour");
    assert!(provider.status.unwrap().refused_login.is_some());
    assert_eq!(side.attempts(), 1);

    let mut last = operator;
    for _ in 0..2 {
        drop(last);
        last = side.stage().start_operator().await;
        wait_reconciled(&last, WAITING + 1).await;
    }
    side.wait_refused().await;
    assert_eq!(side.attempts(), 1);

    side.correct().await;
    side.stage().wait_all_ready(WAITING).await;
    assert_eq!(side.attempts(), 2);
    wait_for(side.stage().api::<KeyProvider>(), side.provider(), true, Reason::Available).await;
    let provider = side.stage().api::<KeyProvider>().get(side.provider()).await.unwrap();
    assert_eq!(provider.status.unwrap().refused_login, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_locked_is_named_so() {
    let foundry = FakeCloudFoundry::builder().start().await.unwrap();
    foundry.lock("alice");
    let stage = FoundryStage::set_with(foundry).await;
    let _operator = stage.start_operator().await;
    let provider = stage.wait_foundry(Reason::Unauthorized).await;
    provider.says("Your account has been locked because of too many failed attempts to login");
    provider.says("the account is locked after logins with wrong passwords");
    assert_eq!(stage.count(&[cloud_foundry::Route::Token]), 1);
}
