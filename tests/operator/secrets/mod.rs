//! The Secret: its repair, its ownership, other writers, and credentials that appear nowhere else.

mod a_foreign_secret_is_left_alone;
mod a_second_writer_is_withstood;
mod no_key_is_made_for_a_secret_that_can_not_be_written;
mod secrets_stay_secret;
mod the_secret_is_repaired;
