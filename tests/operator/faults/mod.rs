//! Crashes, restarts and outages: afterwards each ServiceKey has exactly one key; none is missing, and none is left
//! behind.

mod a_broker_in_trouble_is_reported_and_survived;
mod a_restart_takes_up_every_key;
mod an_outage_of_the_api_server_costs_nothing;
mod crashes_leave_one_key;
mod random_crashes_leave_one_key_each;
