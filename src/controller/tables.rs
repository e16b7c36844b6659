//! The sizes of the tables that the operator keeps in memory. Tests find leaks with them.

use std::{collections::BTreeMap, fmt, sync::Arc};

use parking_lot::Mutex;

/// A name and a number of entries for each table.
pub(crate) type Sizes = Vec<(&'static str, usize)>;

/// The numbers of entries in the tables of an operator, by name. Clones read the same tables.
///
/// Only tables are included that have an entry for each ServiceKey, Secret, provider or key that they know. Caches with
/// a bound of their own are not: the answers of remote sides, the verdicts on templates, and the recent Events.
#[derive(Clone, Default)]
pub struct TableSizes(Arc<Mutex<Vec<Source>>>);

/// Reads the sizes of some tables; empty if they no longer exist.
type Source = Box<dyn Fn() -> Sizes + Send + Sync>;

impl TableSizes {
    /// The current sizes. Tables of the same name are counted together.
    #[must_use]
    pub fn read(&self) -> BTreeMap<&'static str, usize> {
        let mut sizes = BTreeMap::new();
        for (name, size) in self.0.lock().iter().flat_map(|source| source()) {
            *sizes.entry(name).or_default() += size;
        }
        sizes
    }

    /// Adds tables. The source must not keep them alive.
    pub(super) fn add(&self, source: impl Fn() -> Sizes + Send + Sync + 'static) {
        self.0.lock().push(Box::new(source));
    }
}

impl fmt::Debug for TableSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TableSizes").field(&self.read()).finish()
    }
}
