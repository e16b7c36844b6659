//! Operation of the operator: installation, upgrade, replicas, health, logs, metrics and traces.

mod a_cluster_may_be_rolled_back;
mod a_release_is_recorded;
mod an_upgrade_keeps_every_key;
mod check_tells_what_is_missing;
mod health_tells_whether_it_lives;
mod logs_tell_what_happens;
mod metrics_tell_what_happens;
mod one_of_several_replicas_works;
mod sigterm_ends_the_operator;
mod the_chart_runs_the_operator;
#[cfg(feature = "otlp")]
mod traces_are_sent;
