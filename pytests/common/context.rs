//! Python's `contextvars`, in Rust.

use std::{ffi::CStr, sync::Arc, thread};

use futures::{channel::oneshot, executor::block_on};
use pyo3::{exceptions::PyRuntimeError, prelude::*};
use pyo3_await_pytests::{Code, function, turn};

use super::way::Way;
use crate::adapter::{self, Runtime as _, TaskLocals, attach, current_runtime, into_future, scope, spawn};

const VARIABLE: &CStr = c"
import contextvars

variable = contextvars.ContextVar('variable', default='unset')

# Calls and awaits with the variable set to `value`; gives what it is to the caller afterwards.
async def within(value, make):
    variable.set(value)
    result = await make()
    return result, variable.get()

async def look():
    await asyncio.sleep(0)
    return variable.get()

async def change():
    variable.set('changed by a coroutine')
    await asyncio.sleep(0)
    return variable.get()
";

/// The variable of some code, to be looked at by Rust.
struct Variable(Py<PyAny>);

impl Variable {
    fn of(code: &Code) -> PyResult<Self> {
        Python::attach(|py| Ok(Self(code.get(py, "variable")?.unbind())))
    }

    /// Its value in the context of the task.
    fn get(&self) -> PyResult<String> {
        attach(|py| self.0.call_method0(py, "get")?.extract(py))
    }

    fn set(&self, value: &str) -> PyResult<String> {
        attach(|py| {
            self.0.call_method1(py, "set", (value,))?;
            self.0.call_method0(py, "get")?.extract(py)
        })
    }
}

/// Awaits what a function of the code returns, and gives it as a string.
async fn python(function: &Py<PyAny>) -> PyResult<String> {
    let future = Python::attach(|py| into_future(function.bind(py).call0()?))?;
    let value = future.await?;
    Python::attach(|py| value.extract(py))
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn every_poll_sees_what_was_set_before_the_await() -> PyResult<()> {
    let code = Code::new(VARIABLE)?;
    for way in Way::ALL {
        let variable = Variable::of(&code)?;
        let make = way.maker(async move {
            let first = variable.get()?;
            turn().await;
            let second = variable.get()?;
            turn().await;
            Ok((first, second, variable.get()?))
        })?;
        let seen = code.future("within", ("set", make))?.await?;
        let (seen, _): ([String; 3], String) = Python::attach(|py| seen.extract(py))?;
        assert_eq!(seen, ["set", "set", "set"], "{way:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn changes_do_not_leak() -> PyResult<()> {
    let code = Code::new(VARIABLE)?;
    for way in Way::ALL {
        let variable = Variable::of(&code)?;
        let change = Python::attach(|py| code.get(py, "change").map(Bound::unbind))?;
        let make = way.maker(async move {
            let by_rust = variable.set("changed by Rust")?;
            let then = variable.get()?;
            let by_python = python(&change).await?;
            Ok((by_rust, then, by_python, variable.get()?))
        })?;
        let seen = code.future("within", ("set", make))?.await?;
        let (seen, after): ([String; 4], String) = Python::attach(|py| seen.extract(py))?;
        assert_eq!(seen, ["changed by Rust", "set", "changed by a coroutine", "set"], "{way:?}");
        assert_eq!(after, "set", "{way:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn coroutines_that_rust_awaits_see_it() -> PyResult<()> {
    let code = Code::new(VARIABLE)?;
    for way in Way::ALL {
        let look = Python::attach(|py| code.get(py, "look").map(Bound::unbind))?;
        let make = way.maker(async move {
            let first = python(&look).await?;
            turn().await;
            Ok((first, python(&look).await?))
        })?;
        let seen = code.future("within", ("set", make))?.await?;
        let (seen, _): ([String; 2], String) = Python::attach(|py| seen.extract(py))?;
        assert_eq!(seen, ["set", "set"], "{way:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn it_follows_spawn_and_no_other_task() -> PyResult<()> {
    let code = Code::new(VARIABLE)?;
    let variable = Variable::of(&code)?;
    let make = Way::Coroutine.maker(async move {
        let (sender, spawned) = oneshot::channel();
        spawn(async move {
            let value = variable.get();
            let _ = sender.send((value, variable));
        })?;
        let (inherited, variable) = spawned.await.expect("the task ends by sending");
        let (sender, spawned) = oneshot::channel();
        current_runtime()?.spawn(async move { drop(sender.send(variable.get())) });
        let bare = spawned.await.expect("the task ends by sending");
        Ok((inherited?, bare.expect_err("no locals").to_string()))
    })?;
    let seen = code.future("within", ("set", make))?.await?;
    let ((inherited, error), _): ((String, String), String) = Python::attach(|py| seen.extract(py))?;
    assert_eq!(inherited, "set");
    assert!(error.contains("no event loop"), "{error}");
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn it_follows_a_scope_to_any_thread() -> PyResult<()> {
    let code = Code::new(VARIABLE)?;
    for way in Way::ALL {
        let (variable, look) = (Variable::of(&code)?, Python::attach(|py| code.get(py, "look").map(Bound::unbind))?);
        let make = way.maker(async move {
            let locals = Python::attach(TaskLocals::current)?;
            let (sender, seen) = oneshot::channel();
            // A thread that is neither the runtime's nor Python's.
            thread::spawn(move || {
                let look = async { Ok((variable.get()?, python(&look).await?)) };
                let _ = sender.send(block_on(scope(locals, look)));
            });
            seen.await.expect("the thread ends by sending")
        })?;
        let seen = code.future("within", ("set", make))?.await?;
        let (seen, _): ([String; 2], String) = Python::attach(|py| seen.extract(py))?;
        assert_eq!(seen, ["set", "set"], "{way:?}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn tasks_side_by_side_have_their_own() -> PyResult<()> {
    let code = Code::new(VARIABLE)?;
    code.run(
        c"
async def side_by_side(make, count):
    return await asyncio.gather(*[within(str(number), make) for number in range(count)])
",
    )?;
    let variable = Arc::new(Variable::of(&code)?);
    let make = function(move |py, _| {
        let variable = Arc::clone(&variable);
        let look = async move {
            for _ in 0..3 {
                turn().await;
            }
            variable.get()
        };
        Way::Coroutine.convert(py, look).map(Bound::unbind)
    })?;
    let seen = code.future("side_by_side", (make, 20))?.await?;
    let seen: Vec<(String, String)> = Python::attach(|py| seen.extract(py))?;
    let expected: Vec<_> = (0..20).map(|number| (number.to_string(), number.to_string())).collect();
    assert_eq!(seen, expected);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
fn without_locals_there_is_no_context() {
    let ask = || attach(|_| Ok(()));
    let error = thread::spawn(ask).join().expect("it does not panic").expect_err("no locals");
    Python::attach(|py| assert!(error.is_instance_of::<PyRuntimeError>(py), "{error}"));
    assert!(error.to_string().contains("no event loop"), "{error}");
}
