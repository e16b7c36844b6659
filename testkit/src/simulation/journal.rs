//! The record of a run: each effect in its order, at its virtual time. Its digest shows whether two runs are equal.

use std::{collections::VecDeque, fmt::Display, sync::Arc};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The entries that a failure shows.
const KEPT: usize = 400;

/// The record of a run. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Mutex<Record>>);

#[derive(Debug)]
struct Record {
    began: Instant,
    digest: u64,
    entries: u64,
    last: VecDeque<String>,
    /// Whether each entry is printed at once.
    is_shown: bool,
}

impl Journal {
    /// A record that begins now; `is_shown` prints each entry.
    #[must_use]
    pub fn begin(is_shown: bool) -> Self {
        let record = Record {
            began: Instant::now(),
            digest: 0xcbf2_9ce4_8422_2325,
            entries: 0,
            last: VecDeque::new(),
            is_shown,
        };
        Self(Arc::new(Mutex::new(record)))
    }

    /// Adds an entry: who did what.
    pub fn note(&self, who: &str, what: impl Display) {
        let mut record = self.0.lock();
        let at = record.began.elapsed().as_millis();
        let entry =
            format!("{:>10.3} {who:<10} {what}", f64::from(u32::try_from(at).unwrap_or(u32::MAX)) / 1000.0);
        record.digest = entry.bytes().fold(record.digest, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        record.entries += 1;
        if record.is_shown {
            #[expect(clippy::print_stdout, reason = "the user asked for it")]
            {
                println!("{entry}");
            }
        }
        if record.last.len() == KEPT {
            record.last.pop_front();
        }
        record.last.push_back(entry);
    }

    /// The digest (FNV-1a) of all entries, and their number.
    #[must_use]
    pub fn digest(&self) -> (u64, u64) {
        let record = self.0.lock();
        (record.digest, record.entries)
    }

    /// The last entries.
    #[must_use]
    pub fn last(&self) -> Vec<String> {
        self.0.lock().last.iter().cloned().collect()
    }
}
