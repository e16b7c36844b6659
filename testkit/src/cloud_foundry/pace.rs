//! How long the Cloud Controller takes to make or delete a key.

/// What the Cloud Controller can be at work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// A key is being made.
    Create,
    /// A key is being deleted.
    Delete,
}

impl Work {
    /// `last_operation.type`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }

    /// `operation` of a job.
    pub(super) const fn job(self) -> &'static str {
        match self {
            Self::Create => "service_keys.create",
            Self::Delete => "service_keys.delete",
        }
    }

    /// The GUID of a job of a Korifi, which is made of what it does and to which key.
    pub(super) fn job_of_korifi(self, key: &str) -> String {
        format!("managed_service_binding.{}~{key}", self.name())
    }

    /// What a job calls it that fails.
    pub(super) const fn of_the_broker(self) -> &'static str {
        match self {
            Self::Create => "bind",
            Self::Delete => "unbind",
        }
    }
}

/// How long work takes. It never depends on a clock.
///
/// Work begins after the first look that anybody takes at it: a `GET` of the job or of the key, or a list that shows
/// the key. That look finds the job `PROCESSING`, and the key as if nothing had been asked for yet: a new one is
/// `initial`, and one that is to be deleted still says that its creation succeeded. Later looks find the job
/// `POLLING` and the key `in progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Pace {
    /// What takes time.
    slow: &'static [Work],
    /// How many looks find the work under way; nothing where the test ends it.
    looks: Option<usize>,
}

impl Pace {
    /// Everything is done before the answer is sent.
    pub const fn at_once() -> Self {
        Self { slow: &[], looks: Some(0) }
    }

    /// Work takes until the test ends it: [`finish`](super::FakeCloudFoundry::finish),
    /// [`fail`](super::FakeCloudFoundry::fail).
    pub const fn until_told() -> Self {
        Self { slow: &[Work::Create, Work::Delete], looks: None }
    }

    /// This many looks find the work under way; the next one finds it done.
    pub const fn looks(count: usize) -> Self {
        Self { slow: &[Work::Create, Work::Delete], looks: Some(count) }
    }

    /// Only this work takes time; the other is done at once.
    pub const fn only(mut self, work: Work) -> Self {
        self.slow = match work {
            Work::Create => &[Work::Create],
            Work::Delete => &[Work::Delete],
        };
        self
    }

    pub(super) fn takes_time(self, work: Work) -> bool {
        self.slow.contains(&work)
    }

    /// Whether work that was looked at so often is over.
    pub(super) fn is_over(self, looks: usize) -> bool {
        self.looks.is_some_and(|under_way| looks >= under_way)
    }
}
