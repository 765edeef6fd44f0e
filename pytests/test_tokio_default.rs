//! tokio's process-wide default runtime, and programs that have a runtime of their own: a process for each.

use std::{
    cell::RefCell,
    future, mem, panic,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use pyo3_await_pytests::program::{self, Program, in_child};
use pyo3_await_tokio::{
    RuntimeExt as _, TaskLocals, Tokio, block_on, into_coroutine, into_eager_coroutine, into_future, run, run_forever,
    scope, spawn,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle, RuntimeFlavor},
    sync::oneshot,
    time,
};

fn main() -> ExitCode {
    program::main(PROGRAMS, tests)
}

#[pyo3_await_tokio::main]
async fn tests() -> PyResult<()> {
    pyo3_await_tokio::testing::main().await
}

/// Each program is a test.
macro_rules! programs {
    ($($name:ident),* $(,)?) => {
        const PROGRAMS: &[Program] = &[$((stringify!($name), || $name().expect("it gives no error"))),*];

        mod programs {
            $(
                #[pyo3_await_tokio::test(timeout = "60s")]
                fn $name() {
                    pyo3_await_pytests::program::run(stringify!($name));
                }
            )*
        }
    };
}

programs! {
    the_default_has_threads_and_all_drivers,
    the_default_is_configured_before_it_is_used,
    the_default_is_not_changed_after_it_was_used,
    a_default_that_cannot_be_built_is_built_another_time,
    a_current_thread_default_is_driven_by_a_thread_of_its_own,
    the_default_is_replaced_by_the_applications_runtime,
    a_handle_is_that_of_the_runtime,
    a_thread_that_is_in_a_runtime_uses_that,
    main_shapes_the_default,
    main_shapes_a_current_thread_default,
    tokios_own_main_has_pythons_loop_in_a_thread,
    a_shutdown_drops_futures_and_ends_the_threads,
    a_shutdown_ends_a_current_thread_default,
    a_shutdown_leaves_alone_what_is_not_its_own,
    a_shutdown_in_a_task_is_refused,
    a_forked_child_builds_a_default_of_its_own,
    a_forked_child_wants_another_runtime_of_the_application,
    a_child_that_a_poll_forks_is_in_no_runtime,
    the_first_use_does_not_wait_for_a_panic_hook_that_waits_for_python,
    the_first_await_does_not_wait_for_a_panic_hook_that_waits_for_python,
    a_child_does_not_wait_for_the_first_use_of_its_parent,
}

fn thread_name() -> Option<String> {
    thread::current().name().map(str::to_owned)
}

/// The name of the thread on which the current runtime runs a future.
fn name_of_worker() -> PyResult<Option<String>> {
    Python::attach(|py| run(py, async { Ok(thread_name()) }))
}

/// tokio panics where it cannot start a thread; here the name of the first is what fails.
fn a_default_that_cannot_be_built_is_built_another_time() -> PyResult<()> {
    Python::initialize();
    let asked = AtomicUsize::new(0);
    let mut builder = named("never");
    builder.thread_name_fn(move || {
        assert!(asked.fetch_add(1, Ordering::Relaxed) > 0, "no thread today");
        "tomorrow".to_owned()
    });
    Tokio::configure(builder)?;
    let panicked = panic::catch_unwind(Tokio::current);
    assert!(panicked.is_err());
    assert_eq!(name_of_worker()?.as_deref(), Some("tomorrow"));
    Ok(())
}

/// A builder for a runtime with one worker, of this name.
fn named(name: &str) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name(name).enable_all();
    builder
}

fn the_default_has_threads_and_all_drivers() -> PyResult<()> {
    Python::initialize();
    Python::attach(|py| {
        run(py, async {
            assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::MultiThread);
            time::sleep(Duration::from_millis(1)).await;
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let mut client = TcpStream::connect(listener.local_addr()?).await?;
            let (mut server, _) = listener.accept().await?;
            client.write_all(b"line").await?;
            let mut line = [0; 4];
            server.read_exact(&mut line).await?;
            assert_eq!(&line, b"line");
            Ok(())
        })
    })
}

fn the_default_is_configured_before_it_is_used() -> PyResult<()> {
    Python::initialize();
    Tokio::configure(named("first"))?;
    // Until it is used, nothing is lost by another choice.
    Tokio::configure(named("second"))?;
    assert_eq!(name_of_worker()?.as_deref(), Some("second"));
    Ok(())
}

fn the_default_is_not_changed_after_it_was_used() -> PyResult<()> {
    Python::initialize();
    Tokio::configure(named("configured"))?;
    assert_eq!(name_of_worker()?.as_deref(), Some("configured"));

    let error = Tokio::configure(named("late")).expect_err("it was used");
    assert!(error.to_string().contains("is in use already"), "{error}");
    assert!(error.to_string().contains("before the first future"), "{error}");
    let error = PyErr::from(error);
    assert!(Python::attach(|py| error.is_instance_of::<PyRuntimeError>(py)), "{error}");

    let own = named("own").build()?;
    Tokio::new(own.handle().clone()).set_default().expect_err("it was used");
    assert_eq!(name_of_worker()?.as_deref(), Some("configured"));
    Ok(())
}

fn a_current_thread_default_is_driven_by_a_thread_of_its_own() -> PyResult<()> {
    Python::initialize();
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    Tokio::configure(builder)?;
    // No event loop runs, and nobody blocks on the runtime.
    let (sender, receiver) = mpsc::channel();
    spawn(async move {
        time::sleep(Duration::from_millis(1)).await;
        sender.send((thread_name(), Handle::current().runtime_flavor())).expect("the program receives");
    })?;
    let (name, flavor) = receiver.recv().expect("the task sends");
    assert_eq!((name.as_deref(), flavor), (Some("pyo3-await-tokio"), RuntimeFlavor::CurrentThread));
    assert_eq!(name_of_worker()?, name);
    Ok(())
}

fn the_default_is_replaced_by_the_applications_runtime() -> PyResult<()> {
    Python::initialize();
    let own = named("application").build()?;
    Tokio::from(own.handle().clone()).set_default()?;
    assert_eq!(name_of_worker()?.as_deref(), Some("application"));
    Tokio::configure(named("late")).expect_err("it is there already");
    Ok(())
}

fn a_handle_is_that_of_the_runtime() -> PyResult<()> {
    Python::initialize();
    // Of the default, which the process keeps …
    Tokio::configure(named("default"))?;
    let id = Python::attach(|py| run(py, async { Ok(Handle::current().id()) }))?;
    assert_eq!(Tokio::current()?.handle().id(), id);
    // … and of a value, for what the bridge has no call for.
    let own = named("own").build()?;
    let tokio = Tokio::new(own.handle().clone());
    let name = own.block_on(tokio.handle().spawn_blocking(thread_name)).expect("it does not panic");
    assert_eq!(name.as_deref(), Some("own"));
    Ok(())
}

/// Long enough for threads that end at once, on any machine.
const LONG: Duration = Duration::from_secs(30);

/// Has `builder` make the default, shuts that down with a future in it, and sees both end and another begin.
fn shut_down(mut builder: Builder) -> PyResult<()> {
    thread_local! {
        /// It goes with the thread.
        static LIVES: RefCell<Option<mpsc::Sender<()>>> = const { RefCell::new(None) };
    }

    let (ended, ends) = mpsc::channel();
    builder.enable_all().on_thread_stop(move || {
        let _ = ended.send(());
    });
    Tokio::configure(builder)?;
    let (started, starts) = mpsc::channel();
    let (lives, lived) = mpsc::channel();
    let thread = thread::spawn(move || {
        Python::attach(|py| {
            run(py, async move {
                LIVES.set(Some(lives));
                started.send(thread_name()).expect("the program receives");
                future::pending::<PyResult<()>>().await
            })
        })
    });
    let name = starts.recv().expect("the future starts");
    Python::attach(|py| Tokio::shutdown(py, LONG))?;
    let error = thread.join().expect("the thread does not panic").expect_err("the future was dropped");
    assert!(error.to_string().contains("was the runtime shut down"), "{error}");
    // A current-thread runtime has no threads that it could tell of.
    if name.as_deref() != Some("pyo3-await-tokio") {
        ends.try_recv().expect("the worker has ended");
    }
    assert_eq!(lived.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected), "the thread has ended");
    assert_eq!(name_of_worker()?, name);

    // Who does not end is waited for as long as was said, here not for ever.
    let (started, starts) = mpsc::channel();
    let (unblock, blocked) = mpsc::channel::<()>();
    spawn(async move {
        started.send(()).expect("the program receives");
        let _ = blocked.recv();
    })?;
    starts.recv().expect("the task starts");
    Python::attach(|py| Tokio::shutdown(py, Duration::from_millis(10)))?;
    drop(unblock);
    Ok(())
}

fn a_shutdown_drops_futures_and_ends_the_threads() -> PyResult<()> {
    Python::initialize();
    shut_down(named("configured"))
}

fn a_shutdown_ends_a_current_thread_default() -> PyResult<()> {
    Python::initialize();
    shut_down(Builder::new_current_thread())
}

fn a_shutdown_leaves_alone_what_is_not_its_own() -> PyResult<()> {
    Python::initialize();
    Python::attach(|py| Tokio::shutdown(py, LONG))?;
    let own = named("application").build()?;
    Tokio::from(own.handle().clone()).set_default()?;
    Python::attach(|py| Tokio::shutdown(py, LONG))?;
    assert_eq!(name_of_worker()?.as_deref(), Some("application"));
    Ok(())
}

fn a_shutdown_in_a_task_is_refused() -> PyResult<()> {
    Python::initialize();
    let error = Python::attach(|py| run(py, async { Python::attach(|py| Tokio::shutdown(py, LONG)) }));
    let error = error.expect_err("it would wait for itself");
    assert!(error.to_string().contains("another thread"), "{error}");
    assert!(name_of_worker()?.is_some(), "the default goes on");
    Ok(())
}

fn a_forked_child_builds_a_default_of_its_own() -> PyResult<()> {
    Python::initialize();
    Tokio::configure(named("configured"))?;
    let parents = Tokio::current()?;
    assert_eq!(name_of_worker()?.as_deref(), Some("configured"));
    in_child(|| {
        assert_eq!(name_of_worker()?.as_deref(), Some("configured"));
        // It is in use here too.
        Tokio::configure(named("late")).expect_err("it was used");
        let error = Python::attach(|py| parents.run(py, async { Ok(()) })).expect_err("its threads are elsewhere");
        assert!(error.to_string().contains("left behind by os.fork()"), "{error}");
        in_child(|| {
            assert_eq!(name_of_worker()?.as_deref(), Some("configured"));
            Ok(())
        })
    })?;
    assert_eq!(name_of_worker()?.as_deref(), Some("configured"));
    Ok(())
}

fn a_forked_child_wants_another_runtime_of_the_application() -> PyResult<()> {
    Python::initialize();
    let own = named("application").build()?;
    Tokio::from(own.handle().clone()).set_default()?;
    assert_eq!(name_of_worker()?.as_deref(), Some("application"));
    in_child(|| {
        let error = name_of_worker().expect_err("its threads are elsewhere");
        assert!(error.to_string().contains("hand it over by Tokio::set_default"), "{error}");
        let own = named("another").build()?;
        Tokio::from(own.handle().clone()).set_default()?;
        assert_eq!(name_of_worker()?.as_deref(), Some("another"));
        mem::forget(own);
        Ok(())
    })?;
    assert_eq!(name_of_worker()?.as_deref(), Some("application"));
    Ok(())
}

/// The worker that forks has what tokio keeps for it; the default has not been looked for in the parent.
fn a_child_that_a_poll_forks_is_in_no_runtime() -> PyResult<()> {
    Python::initialize();
    let own = named("application").build()?;
    let tokio = Tokio::new(own.handle().clone());
    let fork = async {
        tokio::task::yield_now().await;
        in_child(|| {
            assert!(Handle::try_current().is_ok());
            assert_ne!(name_of_worker()?.as_deref(), Some("application"));
            Ok(())
        })
    };
    Python::attach(|py| tokio.run(py, fork))
}

fn a_thread_that_is_in_a_runtime_uses_that() -> PyResult<()> {
    Python::initialize();
    let own = named("entered").build()?;
    {
        let _entered = own.enter();
        assert_eq!(name_of_worker()?.as_deref(), Some("entered"));
    }
    // The default has not been touched.
    Tokio::configure(named("default"))?;
    assert_eq!(name_of_worker()?.as_deref(), Some("default"));
    Ok(())
}

/// The default's flavor and number of workers, from a thread that is in no runtime.
fn shape_of_default() -> PyResult<(RuntimeFlavor, usize)> {
    let look = || {
        let (sender, receiver) = mpsc::channel();
        spawn(async move {
            let handle = Handle::current();
            sender.send((handle.runtime_flavor(), handle.metrics().num_workers())).expect("somebody receives");
        })?;
        Ok(receiver.recv().expect("the task sends"))
    };
    thread::spawn(look).join().expect("it does not panic")
}

fn main_shapes_the_default() -> Result<(), ExitCode> {
    #[pyo3_await_tokio::main(worker_threads = 3)]
    async fn program() {
        assert_eq!(shape_of_default().expect("it runs"), (RuntimeFlavor::MultiThread, 3));
    }

    succeed(program())
}

fn main_shapes_a_current_thread_default() -> Result<(), ExitCode> {
    #[pyo3_await_tokio::main(flavor = "current_thread")]
    async fn program() {
        // The thread that drives the default is this one, so it cannot wait for another task.
        assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::CurrentThread);
        assert_eq!(thread_name().as_deref(), Some("pyo3-await-tokio"));
        time::sleep(Duration::from_millis(1)).await;
    }

    succeed(program())
}

/// A thread that panics and is in its hook, with what lets that go on, to `end` and to its end.
fn in_panic_hook(end: fn()) -> (JoinHandle<()>, mpsc::Sender<()>) {
    let (in_hook, is_in_hook) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    panic::set_hook(Box::new(move |_| {
        in_hook.send(()).expect("the main thread waits");
        may_go_on.lock().expect("it is not poisoned").recv().expect("the main thread sends");
        end();
    }));
    let panicking = thread::spawn(|| panic!("its hook is called"));
    is_in_hook.recv().expect("the hook sends");
    (panicking, go_on)
}

fn the_first_use_does_not_wait_for_a_panic_hook_that_waits_for_python() -> PyResult<()> {
    Python::initialize();
    // An import runs Python code, which lets others have the interpreter.
    Python::attach(|py| py.import("asyncio").map(drop))?;
    let (panicking, attach) = in_panic_hook(|| Python::attach(|_| ()));
    let seven = Python::attach(|py| {
        attach.send(()).expect("the hook waits");
        block_on(py, async { Ok(7) })
    });
    assert_eq!(seven?, 7);
    panicking.join().expect_err("it panics");
    Ok(())
}

fn the_first_await_does_not_wait_for_a_panic_hook_that_waits_for_python() -> PyResult<()> {
    Python::initialize();
    let (panicking, attach) = in_panic_hook(|| Python::attach(|_| ()));
    let seven = Python::attach(|py| {
        // No Python code runs, which would let the hook have the interpreter.
        let coroutine = into_eager_coroutine(py, async { Ok(7) })?;
        attach.send(()).expect("the hook waits");
        let returned = coroutine.call_method1("send", (py.None(),)).expect_err("it has ended");
        returned.value(py).getattr("value")?.extract::<i32>()
    });
    assert_eq!(seven?, 7);
    panicking.join().expect_err("it panics");
    Ok(())
}

fn a_child_does_not_wait_for_the_first_use_of_its_parent() -> PyResult<()> {
    fn use_it() -> PyResult<()> {
        Python::attach(|py| {
            assert_eq!(block_on(py, async { Ok(7) })?, 7);
            Ok(())
        })
    }

    Python::initialize();
    Python::attach(|py| py.import("asyncio").map(drop))?;
    let (panicking, go_on) = in_panic_hook(|| ());
    let exit_functions = || Python::attach(|py| py.import("atexit")?.call_method0("_ncallbacks")?.extract::<usize>());
    let none_yet = exit_functions()?;
    let first = thread::spawn(use_it);
    while exit_functions()? == none_yet {
        thread::yield_now();
    }
    // From there it is not far to the hook, and a fork waits for a first use, though not for ever.
    in_child(use_it)?;
    go_on.send(()).expect("the hook waits");
    panicking.join().expect_err("it panics");
    first.join().expect("it does not panic")?;
    in_child(use_it)
}

fn succeed(code: ExitCode) -> Result<(), ExitCode> {
    if code == ExitCode::SUCCESS { Ok(()) } else { Err(code) }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn tokios_own_main_has_pythons_loop_in_a_thread() -> PyResult<()> {
    Python::initialize();
    let (sender, locals) = oneshot::channel();
    let python = thread::spawn(|| {
        Python::attach(|py| {
            let event_loop = py.import("asyncio")?.call_method0("new_event_loop")?;
            sender.send(TaskLocals::new(&event_loop)?).expect("the main function receives");
            run_forever(&event_loop)?;
            event_loop.call_method0("close").map(drop)
        })
    });
    let locals = locals.await.expect("the thread sends");

    // Rust awaits Python …
    let sleep = async {
        let sleep = Python::attach(|py| into_future(py.import("asyncio")?.call_method1("sleep", (0.001, 7))?))?;
        let seven = sleep.await?;
        Python::attach(|py| seven.extract::<i32>(py))
    };
    assert_eq!(scope(locals.clone(), sleep).await?, 7);

    // … and Python awaits Rust, on the runtime of this function.
    let own = Handle::current().id();
    let runtime = Python::attach(|py| {
        let coroutine = into_coroutine(py, async { Ok(Handle::current().id().to_string()) })?;
        locals.into_future(coroutine)
    })?;
    let runtime = runtime.await?;
    assert_eq!(Python::attach(|py| runtime.extract::<String>(py))?, own.to_string());

    Python::attach(|py| {
        let event_loop = locals.event_loop(py)?;
        event_loop.call_method1("call_soon_threadsafe", (event_loop.getattr("stop")?,)).map(drop)
    })?;
    tokio::task::spawn_blocking(|| python.join()).await.expect("it does not panic").expect("it does not panic")?;
    // The default has not been touched.
    Tokio::configure(named("unused"))?;
    Ok(())
}
