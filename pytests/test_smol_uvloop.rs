//! The cases on smol's global executor, under uvloop.

mod common;

use pyo3::PyResult;
use pyo3_await_smol as adapter;

type Subject = pyo3_await_pytests::smol::Smol;

#[adapter::main(event_loop = "uvloop")]
async fn main() -> PyResult<()> {
    adapter::testing::main().await
}
