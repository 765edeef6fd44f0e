//! Why a command ends before its end.

use std::fmt;

pub(crate) type Result<T> = std::result::Result<T, Stop>;

/// Why a command ends before its end.
///
/// A test or a check that fails is not among these: it is counted, and the next one runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// What went wrong, and the way out.
    Failed(String),
    /// This signal came, and what ran was ended.
    Signal(i32),
}

impl Stop {
    /// What the process exits with: for a signal, what a shell would report.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Signal(signal) => 128 + u8::try_from(*signal).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) => write!(f, "error: {message}"),
            Self::Signal(_) => f.write_str("interrupted"),
        }
    }
}

impl From<xshell::Error> for Stop {
    fn from(error: xshell::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
