//! Rotation: on request, on schedule, and without locking out a consumer.

mod a_consumer_is_never_locked_out;
mod changed_parameters_require_another_key;
mod keys_end_with_their_credentials;
mod keys_stay_for_their_consumers;
mod new_keys_are_verified;
mod previous_credentials_stay_for_the_overlap;
mod rotation_follows_its_rules;
mod rotations_come_in_their_windows;
mod rotations_come_on_time;
mod workloads_restart_after_rotations;
