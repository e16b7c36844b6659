//! The kinds of brokers.

/// The library and the way of working of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On openbrokerapi; it creates keys synchronously.
    Python,
    /// The same behind the router of its library, which serves several brokers at one address.
    PythonRouted,
    /// On openbrokerapi; it creates and revokes keys in the background, one at a time.
    PythonInBackground,
    /// On brokerapi; it creates keys synchronously.
    Go,
    /// On brokerapi; it creates and revokes keys in the background, one at a time.
    GoInBackground,
}

/// The programming language of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    Go,
}

impl Kind {
    /// Whether it creates and revokes keys only in the background.
    #[must_use]
    pub const fn is_in_background(self) -> bool {
        matches!(self, Self::PythonInBackground | Self::GoInBackground)
    }

    pub(super) const fn language(self) -> Language {
        match self {
            Self::Python | Self::PythonRouted | Self::PythonInBackground => Language::Python,
            Self::Go | Self::GoInBackground => Language::Go,
        }
    }

    /// The program's arguments.
    pub(super) const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Python | Self::Go => &[],
            Self::PythonRouted => &["--routed"],
            Self::PythonInBackground | Self::GoInBackground => &["--in-background"],
        }
    }
}
