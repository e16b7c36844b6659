//! Creates a Kubernetes Secret from credentials: its entries, its metadata, and the marks by which the
//! operator recognizes it. This module sends no requests. It detects what the API server would refuse, before
//! a key is created.

mod admission;
mod digest;
mod entries;
mod entry_name;
mod error;
mod expiry;
mod layout;
mod marks;
mod object;
mod ownership;
mod parameters;
mod previous;
mod restrictions;
mod staging;
mod template;
mod writers;

pub(crate) use digest::Digest;
pub use entries::Entries;
pub(crate) use entries::MAX_SIZE;
pub(crate) use error::RenderError;
pub(crate) use expiry::{ExpiryParts, ends};
pub use layout::Layout;
pub(crate) use marks::{Imprint, Marks, digest_of, read};
pub(crate) use object::{build, rehearsal, release, replace};
pub(crate) use ownership::{Former, Ownership, intact, ownership};
pub use parameters::ParametersKey;
pub(crate) use previous::{entries_of, without_previous};
pub use restrictions::Restrictions;
pub(crate) use restrictions::{Admitted, DENIED_METADATA, DENIED_TYPES, NamePattern};
pub(crate) use staging::{
    STAGING_TYPE, read_staged, staged, staged_texts, staging_imprint, staging_name, staging_rehearsal,
};
pub(crate) use writers::{changed, other_writers};
