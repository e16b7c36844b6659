//! Refusals of the API server. Only a `Status` passes, with a bounded message. kube puts the whole body of any other
//! refusal into its error and into the log.

use kube::core::Status;

/// The maximum size of a refusal.
const REFUSAL_BYTES: usize = 64 << 10;
/// The maximum number of characters of its message.
const MESSAGE_CHARACTERS: usize = 2048;

/// A refusal that arrives in pieces.
#[derive(Debug)]
pub(super) struct RefusalBody {
    code: u16,
    body: Vec<u8>,
    bytes: usize,
}

impl RefusalBody {
    pub(super) const fn new(code: u16) -> Self {
        Self { code, body: Vec::new(), bytes: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        let room = REFUSAL_BYTES.saturating_sub(self.body.len());
        self.body.extend(bytes.iter().take(room));
    }

    /// The `Status` to pass on, as JSON.
    pub(super) fn finish(&self) -> Vec<u8> {
        let whole = self.bytes == self.body.len();
        let status =
            serde_json::from_slice(&self.body).ok().filter(|status: &Status| whole && is_one(status));
        let status = status.map_or_else(|| self.replacement(), |status| self.cut(status));
        serde_json::to_vec(&status).unwrap_or_default()
    }

    fn cut(&self, status: Status) -> Status {
        let message = match status.message.char_indices().nth(MESSAGE_CHARACTERS) {
            None => status.message,
            Some((end, _)) => format!("{}…", &status.message[..end]),
        };
        Status { message, code: self.code, ..status }
    }

    fn replacement(&self) -> Status {
        let message = format!("HTTP {}, with {} bytes that are not a `Status`", self.code, self.bytes);
        Status::failure(&message, "Unknown").with_code(self.code)
    }
}

/// Whether this is a `Status`. All of its fields have defaults, so any JSON object parses as one.
fn is_one(status: &Status) -> bool {
    !status.message.is_empty() || !status.reason.is_empty()
}
