//! The floor under a round trip: what a spawn and a wake cost when there is no Python in between.

use std::{os::fd::OwnedFd, sync::Arc};

use pyo3::prelude::*;
use rustix::io::{Errno, read, write};

use crate::{futures, submodule, tokio};

/// The least that a round trip through a runtime takes: a spawned task that does the workload's work, and a descriptor
/// on which this thread waits for it.
#[pyfunction]
fn round_trips(py: Python<'_>, count: usize) -> PyResult<usize> {
    py.detach(|| {
        let (to_wait, to_wake) = descriptors()?;
        for _ in 0..count {
            let to_wake = Arc::clone(&to_wake);
            let spawn = || async { ::tokio::spawn(async {}).await.expect("it does not panic") };
            tokio().spawn(async move {
                let ended = futures::after(spawn).await;
                write(&to_wake, &u64::from(ended.is_ok()).to_ne_bytes())
            });
            read(&to_wait, &mut [0; size_of::<u64>()])?;
        }
        Ok(count)
    })
    .map_err(|error: Errno| std::io::Error::from(error).into())
}

/// The cheapest pair of descriptors that there is: the one to wait for, the other to wake it.
#[cfg(target_os = "linux")]
fn descriptors() -> Result<(Arc<OwnedFd>, Arc<OwnedFd>), Errno> {
    let event = Arc::new(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?);
    Ok((Arc::clone(&event), event))
}

#[cfg(not(target_os = "linux"))]
fn descriptors() -> Result<(Arc<OwnedFd>, Arc<OwnedFd>), Errno> {
    let (to_wait, to_wake) = rustix::pipe::pipe()?;
    Ok((Arc::new(to_wait), Arc::new(to_wake)))
}

pub(crate) fn add_to(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    submodule(parent, "floor", |module| module.add_function(wrap_pyfunction!(round_trips, module)?))
}
