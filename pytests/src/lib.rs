//! What the integration tests share, and the guide's examples as documentation tests.
//!
//! The cases themselves are in `common/`, written once for all runtimes and event loops; a file `test_*.rs` is one
//! runtime under one event loop.

pub mod subject;
pub mod tokio;
pub mod async_std;
pub mod smol;
pub mod custom;
pub mod mortal;
pub mod held;
pub mod counter;
pub mod python;
pub mod random;
pub mod turn;
pub mod program;

pub use self::{
    counter::{Counter, Guard},
    python::{Code, function, on_loop, once},
    subject::Subject,
    turn::turn,
};

/// One item for each page whose code is compiled.
macro_rules! pages {
    ($($name:ident: $path:literal),* $(,)?) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!($path)]
            pub mod $name {}
        )*
    };
}

pages! {
    readme: "../../README.md",
    introduction: "../../docs/src/introduction.md",
    python_awaits_rust: "../../docs/src/python-awaits-rust.md",
    rust_awaits_python: "../../docs/src/rust-awaits-python.md",
    streams: "../../docs/src/streams.md",
    event_loops: "../../docs/src/event-loops.md",
    packaging: "../../docs/src/packaging.md",
    runtimes: "../../docs/src/runtimes.md",
    entry_points: "../../docs/src/entry-points.md",
    testing: "../../docs/src/testing.md",
    lifecycle: "../../docs/src/lifecycle.md",
    migration: "../../docs/src/migration.md",
}
