//! Memory budgets for the answers of remote sides, shared by namespace.

use crate::backend::{MemoryBudget, MemoryShare};

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
    /// The budget for answers that are being read for a namespace; `None`: for ClusterKeyProviders.
    pub(super) fn answers(&self, namespace: Option<&str>) -> MemoryShare {
        self.answers.share(&holder(namespace))
    }

    /// The budget for data that is kept for a namespace.
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
