//! The cases: each is written once, for every runtime and event loop.
//!
//! The program that has them says which: `crate::adapter` is the runtime's adapter, and [`crate::Subject`] is what else
//! has to be known of the runtime.

mod environment;
mod way;

mod into_future;
mod made;
mod locals;
mod dropping;
mod ends;
mod ways;
mod eager;
mod local;
mod clean_up;
mod context;
mod nesting;
mod event_loops;
mod interpreter;
mod block_on;
mod runtimes;
mod scale;
mod streams;
mod python_streams;
mod channels;
mod contracts;
mod stress;
