//! The memory that answers of remote sides take, shared by namespace.

use crate::backend::{MemoryBudget, MemoryShare};

/// The operator's memory for answers.
#[derive(Clone, Debug)]
pub(super) struct AnswerMemory {
    answers: MemoryBudget,
    kept: MemoryBudget,
}

impl Default for AnswerMemory {
    fn default() -> Self {
        Self { answers: MemoryBudget::for_answers(), kept: MemoryBudget::for_what_is_kept() }
    }
}

impl AnswerMemory {
    /// Where answers are held that are being read for a namespace; `None`: for ClusterKeyProviders themselves.
    pub(super) fn answers(&self, namespace: Option<&str>) -> MemoryShare {
        self.answers.share(&holder(namespace))
    }

    /// Where what is kept for a namespace is held.
    pub(super) fn kept(&self, namespace: Option<&str>) -> MemoryShare {
        self.kept.share(&holder(namespace))
    }
}

fn holder(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("the namespace `{namespace}`"),
        None => "all ClusterKeyProviders together".to_owned(),
    }
}
