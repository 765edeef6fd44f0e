//! What differs between the pairs of attributes.

use syn::{Path, parse_quote};

/// Whose attribute was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adapter {
    /// A runtime of the user's own: `pyo3_await::main(crate = path)`.
    Custom,
    AsyncStd,
    Smol,
    Tokio,
}

impl Adapter {
    /// The crate whose attribute it is, as the user writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Custom => "pyo3_await",
            Self::AsyncStd => "pyo3_await_async_std",
            Self::Smol => "pyo3_await_smol",
            Self::Tokio => "pyo3_await_tokio",
        }
    }

    /// Where generated code finds the adapter when `crate = path` does not say.
    pub(crate) fn default_path(self) -> Option<Path> {
        match self {
            Self::Custom => None,
            Self::AsyncStd => Some(parse_quote!(::pyo3_await_async_std)),
            Self::Smol => Some(parse_quote!(::pyo3_await_smol)),
            Self::Tokio => Some(parse_quote!(::pyo3_await_tokio)),
        }
    }

    /// Whether the runtime can be shaped by `flavor` and `worker_threads`.
    pub(crate) fn has_flavors(self) -> bool {
        self == Self::Tokio
    }

    /// How the runtime is shaped where these are no options, for the end of a message.
    pub(crate) fn shaped_otherwise(self) -> &'static str {
        match self {
            Self::Custom => "; shape the runtime where `adapter!` gets it",
            Self::AsyncStd => "; set the environment variable `ASYNC_STD_THREAD_COUNT`",
            Self::Smol => "; set the environment variable `SMOL_THREADS`, or the default by `Smol::set_default`",
            Self::Tokio => "",
        }
    }
}
