//! The ends of a channel as Python has them.

use pyo3::{conversion::FromPyObjectOwned, exceptions::PyStopAsyncIteration, prelude::*, types::PyTuple};

use super::{
    Receiver, RecvError, Sender,
    call::{self, Own, SEND},
};
use crate::{error, lifecycle, panic};

/// A sender of items of any type, as Python sees it.
trait Sends: Send + Sync {
    /// Converts the item and makes an awaitable that sends it.
    fn send<'py>(&self, item: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;
    fn close(&self) -> bool;
    fn is_closed(&self) -> bool;
}

impl<T> Sends for Sender<T>
where
    T: for<'py> FromPyObjectOwned<'py> + Send + 'static,
{
    fn send<'py>(&self, item: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = item.py();
        panic::listen(py);
        let item: T = panic::catch(|| item.extract().map_err(Into::into)).map_err(error::panicked)??;
        let sender = self.clone();
        call::awaitable(py, SEND, async move { Ok(sender.send(item).await?) })
    }

    fn close(&self) -> bool {
        self.close()
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }
}

/// A receiver of items of any type, as Python sees it.
trait Receives: Send + Sync {
    /// An awaitable that receives an item, and raises what `closed` makes when there are no more.
    fn receive<'py>(&self, py: Python<'py>, name: &'static str, closed: fn() -> PyErr) -> PyResult<Bound<'py, PyAny>>;
    fn close(&self) -> bool;
    fn is_closed(&self) -> bool;
}

impl<T> Receives for Receiver<T>
where
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    fn receive<'py>(&self, py: Python<'py>, name: &'static str, closed: fn() -> PyErr) -> PyResult<Bound<'py, PyAny>> {
        // The channel wakes one such future for an item, and all who wait for it as a stream.
        let receiver = self.clone();
        call::awaitable(py, name, async move { receiver.recv().await.map_err(|_| closed()) })
    }

    fn close(&self) -> bool {
        self.close()
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }
}

/// Python's end of a channel that takes items.
#[pyclass(frozen, name = "Sender", module = "pyo3_await")]
struct PythonSender(Own<Box<dyn Sends>>);

#[pymethods]
impl PythonSender {
    fn send<'py>(&self, item: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.0.get()?.send(item)
    }

    fn close(&self) -> PyResult<()> {
        self.0.get()?.close();
        Ok(())
    }

    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_closed())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close()
    }
}

/// Python's end of a channel that gives items.
#[pyclass(frozen, name = "Receiver", module = "pyo3_await")]
struct PythonReceiver(Own<Box<dyn Receives>>);

#[pymethods]
impl PythonReceiver {
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.get()?.receive(py, "receive()", || RecvError.into())
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.get()?.receive(py, "__anext__()", || PyStopAsyncIteration::new_err(()))
    }

    fn close(&self) -> PyResult<()> {
        self.0.get()?.close();
        Ok(())
    }

    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_closed())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close()
    }
}

impl Drop for PythonSender {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Drop for PythonReceiver {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<'py, T> IntoPyObject<'py> for Sender<T>
where
    T: for<'a> FromPyObjectOwned<'a> + Send + 'static,
{
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        lifecycle::install(py)?;
        Ok(Bound::new(py, PythonSender(Own::new(Box::new(self))))?.into_any())
    }
}

impl<'py, T> IntoPyObject<'py> for Receiver<T>
where
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        lifecycle::install(py)?;
        Ok(Bound::new(py, PythonReceiver(Own::new(Box::new(self))))?.into_any())
    }
}
