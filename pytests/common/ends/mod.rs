//! The table of ends: every way to run a Rust future, and every way in which it can end.
//!
//! A row is a function of a way, and each cell marked `x` is a test of its own, called `ends::<row>::<way>`.
//! A cell marked `-` cannot be; the reason stands beside the row.
//! Each cell has an event loop of its own, whose exception handler must not be called, and the loop is left empty.

mod cancelled;
mod left;
mod moments;
mod output;
mod python;

use std::ffi::CStr;

use pyo3::{call::PyCallArgs, conversion::FromPyObjectOwned, prelude::*};
use pyo3_await_pytests::Code;

use super::{clean_up, event_loops::new_event_loop, nesting};

macro_rules! table {
    ($($group:ident::$row:ident: $coroutine:tt $eager:tt $local:tt $future:tt;)*) => {
        $(
            mod $row {
                cell!($coroutine coroutine Coroutine $group $row);
                cell!($eager eager EagerCoroutine $group $row);
                cell!($local local LocalCoroutine $group $row);
                cell!($future asyncio_future AsyncioFuture $group $row);
            }
        )*
    };
}

macro_rules! cell {
    (x $name:ident $way:ident $group:ident $row:ident) => {
        #[pyo3_await::test(crate = crate::adapter, timeout = "60s")]
        fn $name() -> pyo3::PyResult<()> {
            super::$group::$row(crate::common::way::Way::$way)
        }
    };
    (- $($rest:tt)*) => {};
}

table! {
    // It ends by itself.                                          coroutine  eager  local  asyncio future

    output::a_value:                                                   x        x      x      x;
    output::a_value_that_cannot_be_converted:                          x        x      x      x;
    output::an_error_is_the_same_object:                               x        x      x      x;
    output::a_panic:                                                   x        x      x      x;

    // Python cancels it.

    cancelled::by_task_cancel:                                         x        x      x      x;
    cancelled::by_task_cancel_with_a_message:                          x        x      x      x;
    cancelled::by_its_own_cancel:                                      x        x      x      x;
    cancelled::by_timeout:                                             x        x      x      x;
    cancelled::by_wait_for:                                            x        x      x      x;
    cancelled::by_the_failure_of_a_sibling:                            x        x      x      x;
    cancelled::not_through_a_shield:                                   x        x      x      x;
    // A local future that does not return from a poll has the loop's thread: nobody is there to cancel it.
    cancelled::in_a_poll_that_does_not_return:                         x        x      -      x;

    // An asyncio future starts when it is made.
    moments::before_the_start:                                         x        x      x      -;
    // A local future is not spawned.
    moments::before_the_runtime_polls_it:                              x        x      -      x;
    moments::while_it_completes:                                       x        x      x      x;
    // A local future completes by its delivery.
    moments::after_completion_and_before_delivery:                     x        x      -      x;
    moments::an_error_on_its_way_gives_way:                            x        x      -      x;
    moments::after_delivery:                                           x        x      x      x;

    clean_up::the_awaiter_waits_for_the_clean_up:                      x        x      x      x;
    clean_up::an_error_of_the_clean_up_is_raised:                      x        x      x      x;
    clean_up::it_is_dropped_when_its_time_is_up:                       x        x      x      x;
    clean_up::it_is_dropped_when_it_is_cancelled_once_more:            x        x      x      x;
    clean_up::one_with_another_context_is_told_too:                    x        x      x      x;
    clean_up::whoever_takes_the_request_back_is_dropped_at_once:       x        x      x      x;

    // Python loses it. An asyncio future is no coroutine, and runs on when it is dropped.

    left::thrown_into:                                                 x        x      x      -;
    left::closed:                                                      x        x      x      -;
    left::collected_half_way:                                          x        x      x      -;
    left::never_awaited:                                               x        x      x      -;
    left::dropped_by_python_it_runs_on:                                -        -      -      x;
    // A local future is no task of the runtime.
    left::dropped_by_its_runtime:                                      x        x      -      x;

    // It awaits Python.

    python::a_dropped_python_future_cancels_its_task:                  x        x      x      x;
    python::a_detached_one_runs_on:                                    x        x      x      x;
    python::a_shared_task_is_cancelled_for_all:                        x        x      x      x;
    python::a_shared_task_is_not_cancelled_through_a_shield:           x        x      x      x;
    python::cancelled_error_is_an_error_in_rust:                       x        x      x      x;
    python::keyboard_interrupt_is_an_error_and_stops_the_loop:         x        x      x      x;
    python::system_exit_is_an_error_and_stops_the_loop:                x        x      x      x;

    nesting::fifty_deep:                                                x        x      x      x;
    nesting::an_error_comes_up_with_a_readable_traceback:               x        x      x      x;
    nesting::a_cancellation_goes_to_the_bottom:                         x        x      x      x;
}

const DRIVE: &CStr = c"
import gc

def drive(loop, coroutine):
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    try:
        result = loop.run_until_complete(coroutine)
        # Whatever is left has to end by itself.
        while left := asyncio.all_tasks(loop):
            loop.run_until_complete(asyncio.wait(left))
    finally:
        loop.close()
    gc.collect()
    assert not reports, reports
    return result
";

/// Calls an async Python function of a cell's, on an event loop of the cell's own, and gives its result.
pub(super) fn drive<A, T>(code: &Code, function: &str, arguments: A) -> PyResult<T>
where
    A: for<'py> PyCallArgs<'py>,
    T: for<'py> FromPyObjectOwned<'py>,
{
    code.run(DRIVE)?;
    Python::attach(|py| {
        let event_loop = new_event_loop(py)?;
        let coroutine = code.call(py, function, arguments)?;
        code.call(py, "drive", (event_loop, coroutine))?.extract().map_err(Into::into)
    })
}
