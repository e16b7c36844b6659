//! Templates delay only their own tenant.

use serde_json::{Map, Value, json};
use servicekey_operator::api::{Reason, ServiceKey};
use testkit::broker::{FakeBroker, Fault, Route};

use super::{
    abuse::{Abuse, Actor},
    harness::{Tenant, Tenants, broker_login, broker_spec, instance_of_broker, key_manifest},
};
use crate::support::conditions::Reports;

pub const ABUSES: &[Abuse] = &[
    abuse!(
        templates_whose_constants_fold_delay_nobody,
        Actor::KeyWriter,
        "creates 60 ServiceKeys without a provider, each with 120 KiB of templates whose constants fold for seconds",
        "each is refused with `InvalidSpec` before it is compiled; another tenant's key is created meanwhile",
    ),
    abuse!(
        templates_that_never_end_delay_nobody,
        Actor::Editor,
        "creates 20 ServiceKeys whose templates loop over a password, eight loops deep",
        "each runs out of fuel on a thread of its namespace's share, and reports that; another tenant's key is created \
         meanwhile",
    ),
    abuse!(
        templates_build_no_gigabyte,
        Actor::KeyWriter,
        "has templates build a gigabyte: by `*`, by `**`, by `+`, by a list, by the filter `center`",
        "each is refused with `InvalidSpec`, which names the sign or the filter",
    ),
    abuse!(
        a_text_that_doubles_runs_out_of_fuel,
        Actor::Editor,
        "has a template double a text 60 times",
        "it runs out of fuel before the text has 16 MiB; no Secret is written",
    ),
    abuse!(
        too_many_templates_are_refused,
        Actor::KeyWriter,
        "creates a ServiceKey with 65 templates, and one with 192 KiB of them",
        "the API server refuses the one, the operator the other with `InvalidSpec`; both name the limit",
    ),
    abuse!(
        a_template_nested_too_deep_is_refused,
        Actor::KeyWriter,
        "creates ServiceKeys with templates of 8,000 parentheses, 8,000 filters, and 900 branches",
        "each is refused with `InvalidSpec`, and the operator keeps running",
    ),
    abuse!(
        credentials_that_are_slow_to_compare_cost_nothing,
        Actor::RemoteSide,
        "returns two equal nested lists of 9,000 numbers, which a template compares 20,000 times",
        "lists are compared by their digest; the Secret is written at once",
    ),
];

/// The length limit of a template.
const LONGEST: usize = 16 * 1024;

fn templates(entries: impl IntoIterator<Item = (String, String)>) -> Value {
    let data: Map<_, _> = entries.into_iter().map(|(name, source)| (name, json!(source))).collect();
    json!({"secret": {"template": {"data": data}}})
}

fn template(source: impl Into<String>) -> Value {
    templates([("it".to_owned(), source.into())])
}

/// Repeats the middle part as often as it fits into one template.
fn repeated(start: &str, middle: &str, end: &str) -> String {
    format!("{start}{}{end}", middle.repeat((LONGEST - start.len() - end.len()) / middle.len()))
}

impl Tenant {
    /// Creates a ServiceKey whose provider does not exist.
    async fn create_without_provider(&self, name: &str, fields: Value) {
        let provider = json!({"kind": "KeyProvider", "name": "absent"});
        self.create::<ServiceKey>(key_manifest(name, provider, instance_of_broker(), fields)).await;
    }

    /// Creates a ServiceKey of the KeyProvider `own`.
    async fn create_at_own(&self, name: &str, fields: Value) {
        self.create::<ServiceKey>(key_manifest(name, json!({"name": "own"}), instance_of_broker(), fields))
            .await;
    }

    async fn add_own(&self, broker: &FakeBroker) {
        self.add_provider("own", broker_spec(broker), Some(("broker-login", broker_login()))).await;
        self.wait_provider("own", true, Reason::Available).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_whose_constants_fold_delay_nobody() {
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    let provider = tenants.add_cluster_broker(&broker).await;
    let folds = repeated("{{ 1", "~1", " }}");
    let fields = templates((0..7).map(|number| (number.to_string(), folds.clone())));
    for number in 0..60 {
        tenants.attacker.create_without_provider(&format!("hostile-{number}"), fields.clone()).await;
    }
    tenants
        .victim
        .ask_cluster_provider(&provider, "creds", instance_of_broker(), template("{{ password }}"))
        .await;
    tenants.victim.wait_ready("creds").await;
    for number in 0..60 {
        let key = tenants.attacker.wait_key(&format!("hostile-{number}"), false, Reason::InvalidSpec).await;
        key.says("an expression has more than 256 words and signs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_that_never_end_delay_nobody() {
    let tenants = Tenants::meet(Actor::Editor).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    let provider = tenants.add_cluster_broker(&broker).await;
    tenants.attacker.add_own(&broker).await;
    let endless = format!("{}x{}", "{% for a in password %}".repeat(8), "{% endfor %}".repeat(8));
    for number in 0..20 {
        tenants.attacker.create_at_own(&format!("hostile-{number}"), template(endless.clone())).await;
    }
    tenants
        .victim
        .ask_cluster_provider(&provider, "creds", instance_of_broker(), template("{{ password }}"))
        .await;
    tenants.victim.wait_ready("creds").await;
    for number in 0..20 {
        tenants
            .attacker
            .wait_says(&format!("hostile-{number}"), "it does too much work; make it simpler")
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_build_no_gigabyte() {
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    let attempts = [
        ("product", "{{ 'a' * 1000000000 }}", "`*` is not allowed here"),
        ("power", "{{ 10 ** 1000000000 }}", "`**` is not allowed here"),
        ("sum", "{{ [1] + [1] }}", "`+` is not allowed here"),
        ("list", "{{ [1, 2] }}", "`,` is not allowed here"),
        ("centered", "{{ 'a' | center(1000000000) }}", "filter center is unknown"),
    ];
    for (name, source, _) in attempts {
        tenants.attacker.create_without_provider(name, template(source)).await;
    }
    for (name, _, words) in attempts {
        tenants.attacker.wait_key(name, false, Reason::InvalidSpec).await.says(words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_doubles_runs_out_of_fuel() {
    let tenants = Tenants::meet(Actor::Editor).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    tenants.attacker.add_own(&broker).await;
    let doubles = format!("{{% set x = password %}}{}{{{{ x }}}}", "{% set x = x ~ x %}".repeat(60));
    tenants.attacker.create_at_own("hostile", template(doubles)).await;
    tenants.attacker.wait_says("hostile", "it does too much work; make it simpler").await;
    assert!(tenants.attacker.secrets().get_opt("hostile").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_templates_are_refused() {
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    let many = templates((0..65).map(|number| (number.to_string(), "x".to_owned())));
    let many = key_manifest("many", json!({"name": "absent"}), instance_of_broker(), many);
    let refusal = tenants.attacker.try_create::<ServiceKey>(many).await.unwrap_err().to_string();
    assert!(refusal.contains("must have at most 64 items"), "{refusal}");
    let long = templates((0..12).map(|number| (number.to_string(), "x".repeat(LONGEST))));
    tenants.attacker.create_without_provider("long", long).await;
    tenants.attacker.wait_key("long", false, Reason::InvalidSpec).await.says("shorten them to 128 KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_nested_too_deep_is_refused() {
    let tenants = Tenants::meet(Actor::KeyWriter).await;
    let attempts = [
        ("parentheses", repeated("{{ ", "(", "1"), "nested more than 32 deep"),
        ("filters", repeated("{{ x", "|d", " }}"), "more than 256 words and signs"),
        ("branches", repeated("{% if x %}", "{% elif x %}", "{% endif %}"), "more than 4096 words and signs"),
    ];
    for (name, source, _) in &attempts {
        tenants.attacker.create_without_provider(name, template(source)).await;
    }
    for (name, _, words) in attempts {
        tenants.attacker.wait_key(name, false, Reason::InvalidSpec).await.says(words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_slow_to_compare_cost_nothing() {
    let tenants = Tenants::meet(Actor::RemoteSide).await;
    let broker = FakeBroker::builder().start().await.unwrap();
    tenants.attacker.add_own(&broker).await;
    let numbers: Vec<u32> = (0..9_000).collect();
    let credentials = json!({"a": [[numbers]], "b": [[numbers]], "s": "0123456789abcdefghijklmnop"});
    broker.inject(Fault::credentials(&credentials).on(Route::Bind));
    let loops =
        format!("{}{{% if a == b %}}{{% endif %}}{}", "{% for c in s %}".repeat(3), "{% endfor %}".repeat(3));
    tenants.attacker.create_at_own("compared", template(format!("{loops}{{{{ a == b }}}}"))).await;
    tenants.attacker.wait_ready("compared").await;
    assert_eq!(tenants.secret_of(&tenants.attacker, "compared").await["it"], "true");
}
