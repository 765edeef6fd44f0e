//! The floor under a round trip: what a spawn and a wake cost when there is no Python in between.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::{futures, submodule, tokio};

/// The least that a round trip through a runtime takes: a spawned task that does the workload's work, and a descriptor
/// on which this thread waits for it.
#[pyfunction]
fn round_trips(py: Python<'_>, count: usize) -> PyResult<usize> {
    py.detach(|| {
        let (read, write) = rustix::pipe::pipe()?;
        let write = Arc::new(write);
        for _ in 0..count {
            let write = Arc::clone(&write);
            let spawn = || async { ::tokio::spawn(async {}).await.expect("it does not panic") };
            tokio().spawn(async move {
                let ended = futures::after(spawn).await;
                rustix::io::write(&write, &[u8::from(ended.is_ok())])
            });
            let mut byte = [0];
            rustix::io::read(&read, &mut byte)?;
        }
        Ok(count)
    })
    .map_err(|error: rustix::io::Errno| std::io::Error::from(error).into())
}

pub(crate) fn add_to(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    submodule(parent, "floor", |module| module.add_function(wrap_pyfunction!(round_trips, module)?))
}
