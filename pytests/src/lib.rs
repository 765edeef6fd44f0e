//! The guide's examples, as documentation tests.

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
    event_loops: "../../docs/src/event-loops.md",
    runtimes: "../../docs/src/runtimes.md",
}
