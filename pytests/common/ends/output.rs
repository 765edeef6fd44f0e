//! It ends by itself: with a value, an error or a panic.

use std::{collections::HashSet, convert::Infallible, ffi::CStr, io, panic, time::Duration};

use pyo3::{
    exceptions::{PyFileNotFoundError, PyTypeError, PyValueError},
    prelude::*,
    types::PyInt,
};
use pyo3_await_pytests::{Code, Counter, turn};

use super::drive;
use crate::{adapter::RustPanic, common::way::Way};

const AWAIT: &CStr = c"
async def result(make):
    return await make()

async def exception(make):
    try:
        await make()
    except BaseException as error:
        return error
    raise AssertionError('nothing was raised')
";

/// Has to wait, or not.
async fn wait(later: bool) {
    if later {
        turn().await;
    }
}

/// Calls `f` for a future that is ready at once, and for one that waits.
fn at_once_and_later(mut f: impl FnMut(bool) -> PyResult<()>) -> PyResult<()> {
    [false, true].into_iter().try_for_each(&mut f)
}

pub(super) fn a_value(way: Way) -> PyResult<()> {
    let code = Code::new(AWAIT)?;
    at_once_and_later(|later| {
        let dropped = Counter::new();
        let guard = dropped.guard();
        let make = way.maker(async move {
            wait(later).await;
            drop(guard);
            Ok("value".to_owned())
        })?;
        let value: String = drive(&code, "result", (make,))?;
        assert_eq!((value.as_str(), dropped.get()), ("value", 1));
        // Nothing is `None`.
        let make = way.maker(async move {
            wait(later).await;
            Ok(())
        })?;
        let nothing: Option<String> = drive(&code, "result", (make,))?;
        assert_eq!(nothing, None);
        Ok(())
    })
}

/// What a conversion that fails can have for an error.
enum Unconvertible {
    Exception,
    Panic,
}

impl<'py> IntoPyObject<'py> for Unconvertible {
    type Target = PyInt;
    type Output = Bound<'py, PyInt>;
    type Error = PyErr;

    fn into_pyobject(self, _: Python<'py>) -> PyResult<Self::Output> {
        match self {
            Self::Exception => Err(PyTypeError::new_err("the conversion failed")),
            Self::Panic => panic!("the conversion panicked"),
        }
    }
}

/// A conversion whose error is no exception, but can be made one.
struct Foreign;

impl<'py> IntoPyObject<'py> for Foreign {
    type Target = PyInt;
    type Output = Bound<'py, PyInt>;
    type Error = io::Error;

    fn into_pyobject(self, _: Python<'py>) -> io::Result<Self::Output> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// A conversion that cannot fail, of something that is in what can.
struct Fine;

impl<'py> IntoPyObject<'py> for Fine {
    type Target = PyInt;
    type Output = Bound<'py, PyInt>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Infallible> {
        1.into_pyobject(py)
    }
}

pub(super) fn a_value_that_cannot_be_converted(way: Way) -> PyResult<()> {
    let code = Code::new(AWAIT)?;
    at_once_and_later(|later| {
        let check = Conversion { code: &code, way, later };
        check.raises::<PyTypeError, _>(|| Unconvertible::Exception)?;
        check.raises::<RustPanic, _>(|| Unconvertible::Panic)?;
        check.raises::<PyFileNotFoundError, _>(|| Foreign)?;
        // PyO3's own: more days than a `timedelta` has, and lists in a set.
        check.raises::<PyValueError, _>(|| Duration::MAX)?;
        check.raises::<PyTypeError, _>(|| HashSet::from([vec![1]]))?;
        // Within other values.
        check.raises::<PyFileNotFoundError, _>(|| (Fine, vec![Some(Foreign)]))
    })
}

struct Conversion<'a> {
    code: &'a Code,
    way: Way,
    later: bool,
}

impl Conversion<'_> {
    fn raises<E, T>(&self, value: impl FnOnce() -> T + Send + 'static) -> PyResult<()>
    where
        E: pyo3::PyTypeInfo,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        let later = self.later;
        let make = self.way.maker(async move {
            wait(later).await;
            Ok(value())
        })?;
        let error: Py<PyAny> = drive(self.code, "exception", (make,))?;
        Python::attach(|py| assert!(error.bind(py).is_instance_of::<E>(), "{error}, later: {later}"));
        Ok(())
    }
}

const RAISED: &CStr = c"
import sys, traceback

def raised():
    try:
        try:
            raise KeyError('the context')
        except KeyError:
            raise ValueError('the error') from OSError('the cause')
    except ValueError as error:
        if sys.version_info >= (3, 11):
            error.add_note('a note')
        return error

async def check(make, error):
    try:
        await make()
    except ValueError as caught:
        assert caught is error
        names = [frame.name for frame in traceback.extract_tb(caught.__traceback__)]
        assert names == ['check', 'raised'], names
        assert repr(caught.__cause__) == \"OSError('the cause')\"
        assert repr(caught.__context__) == \"KeyError('the context')\"
        assert sys.version_info < (3, 11) or caught.__notes__ == ['a note']
    else:
        raise AssertionError('nothing was raised')
";

pub(super) fn an_error_is_the_same_object(way: Way) -> PyResult<()> {
    let code = Code::new(AWAIT)?;
    code.run(RAISED)?;
    at_once_and_later(|later| {
        let dropped = Counter::new();
        let guard = dropped.guard();
        let raised: Py<PyAny> = Python::attach(|py| code.call(py, "raised", ()).map(Bound::unbind))?;
        let error = Python::attach(|py| PyErr::from_value(raised.bind(py).clone()));
        let make = way.maker(async move {
            let _guard = guard;
            wait(later).await;
            Err::<(), _>(error)
        })?;
        drive::<_, Py<PyAny>>(&code, "check", (make, raised)).map(drop)?;
        assert_eq!(dropped.get(), 1);
        // An exception that is not made before somebody asks for it.
        let make = way.maker(async move {
            wait(later).await;
            Err::<(), _>(PyValueError::new_err("lazy"))
        })?;
        let error: Py<PyAny> = drive(&code, "exception", (make,))?;
        assert_eq!(Python::attach(|py| error.bind(py).repr().map(|repr| repr.to_string()))?, "ValueError('lazy')");
        Ok(())
    })
}

pub(super) fn a_panic(way: Way) -> PyResult<()> {
    let code = Code::new(AWAIT)?;
    type Panics = fn();
    let payloads: [(Panics, &str); 3] = [
        (|| panic!("a str"), "a str"),
        (|| panic!("a {}", "string"), "a string"),
        (|| panic::panic_any(42), "a panic with a payload that is not a string"),
    ];
    at_once_and_later(|later| {
        for (panics, message) in payloads {
            let dropped = Counter::new();
            let guard = dropped.guard();
            let make = way.maker(async move {
                let _guard = guard;
                wait(later).await;
                panics();
                Ok(())
            })?;
            let error: Py<PyAny> = drive(&code, "exception", (make,))?;
            let shown = Python::attach(|py| {
                assert!(error.bind(py).is_instance_of::<RustPanic>(), "{error}");
                error.to_string()
            });
            let place = shown.strip_prefix(message).and_then(|rest| rest.strip_prefix(", at "));
            let place: Vec<_> = place.unwrap_or_else(|| panic!("{shown}")).rsplitn(3, ':').collect();
            assert!(place.len() == 3 && place[2].ends_with("output.rs"), "{shown}");
            assert_eq!(dropped.get(), 1);
            // The runtime is none the worse for it, nor is the process.
            let make = way.maker(async move {
                wait(true).await;
                Ok(1)
            })?;
            assert_eq!(drive::<_, i32>(&code, "result", (make,))?, 1);
        }
        Ok(())
    })
}
