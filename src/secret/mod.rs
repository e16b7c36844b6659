//! From credentials to a Kubernetes Secret: its entries, its metadata, and how the operator knows it again.
//! Nothing here calls anybody; what the API server would refuse is found here, before a key is made for it.

mod admission;
mod digest;
mod entries;
mod entry_name;
mod error;
mod layout;
mod marks;
mod object;
mod ownership;
mod previous;
mod restrictions;
mod template;
mod writers;

pub use digest::Digest;
pub use entries::{Entries, MAX_SIZE};
pub use error::RenderError;
pub use layout::Layout;
pub use marks::{Imprint, Marks, digest_of, read};
pub use object::{build, rehearsal, release, replace};
pub use ownership::{Former, Ownership, intact, ownership};
pub use previous::{entries_of, without_previous};
pub use restrictions::{Admitted, DENIED_METADATA, DENIED_TYPES, NamePattern, Restrictions};
pub use writers::{changed, other_writers};
