//! A tenant can harm neither other tenants nor the operator, nor reach anything through the operator. Each attack is a
//! test with the tenant's own rights, and a row of the table in `docs/security.md`.
//!
//! To add an attack, write a test with [`harness::Tenants`] in the file of its topic, and add it to that file's
//! `ABUSES` with [`abuse!`](abuse). `UPDATE_DOCS=1 cargo test --test operator tenants::abuse` writes the table.

#[macro_use]
mod abuse;
mod harness;

mod addresses;
mod adoption;
mod bounds;
mod cloud_identity;
mod fairness;
mod hostile;
mod identity;
mod implied_rights;
mod limits;
mod logs;
mod memory;
mod names;
mod padding;
mod parsing;
mod policies;
mod sidecars;
mod spy;
mod templates;
