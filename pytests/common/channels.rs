//! Channels between Rust and Python.

use futures::{StreamExt as _, future::join_all, poll};
use pyo3::{exceptions::PyTypeError, prelude::*};
use pyo3_await_pytests::{Code, Counter, random::Random, turn};

use crate::adapter::{self, ChannelClosed, RecvError, SendError, channel};

const USE: &std::ffi::CStr = c"
async def send_all(sender, number):
    with sender:
        for index in range(number):
            await sender.send(index)

async def receive_all(receiver):
    return [item async for item in receiver]

async def receive(receiver):
    return await receiver.receive()

async def send(sender, item):
    await sender.send(item)
";

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn rust_feeds_python() -> PyResult<()> {
    let code = Code::new(USE)?;
    for capacity in [1, 8, 10_000] {
        let (sender, receiver) = channel::<usize>(capacity);
        let received = code.future("receive_all", (receiver,))?;
        let send = async move {
            for number in 0..1_000 {
                sender.send(number).await?;
            }
            PyResult::Ok(())
        };
        let (items, sent) = futures::join!(received, send);
        sent?;
        assert!(Python::attach(|py| items?.extract::<Vec<usize>>(py))?.into_iter().eq(0..1_000));
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn python_feeds_rust() -> PyResult<()> {
    let code = Code::new(USE)?;
    for capacity in [1, 8, 10_000] {
        let (sender, receiver) = channel::<usize>(capacity);
        let sent = code.future("send_all", (sender, 1_000))?;
        let (sent, items) = futures::join!(sent, receiver.collect::<Vec<_>>());
        sent?;
        assert!(items.into_iter().eq(0..1_000));
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn each_side_may_feed_itself() -> PyResult<()> {
    let code = Code::new(USE)?;
    let (sender, receiver) = channel::<Py<PyAny>>(3);
    let (sent, items) =
        futures::join!(code.future("send_all", (sender, 100))?, code.future("receive_all", (receiver,))?);
    sent?;
    assert!(Python::attach(|py| items?.extract::<Vec<usize>>(py))?.into_iter().eq(0..100));

    let (sender, receiver) = channel(3);
    let send = async move {
        for number in 0..100 {
            sender.send(number).await.expect("the receiver is there");
        }
    };
    let ((), items) = futures::join!(send, receiver.collect::<Vec<usize>>());
    assert!(items.into_iter().eq(0..100));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn a_full_channel_holds_python_back() -> PyResult<()> {
    const CAPACITY: usize = 4;

    let code = Code::new(
        c"
async def send_all(sender, sent):
    for index in range(20):
        await sender.send(index)
        sent()

async def turns():
    for _ in range(10):
        await asyncio.sleep(0)
",
    )?;
    let (sender, receiver) = channel::<usize>(CAPACITY);
    let sent = Counter::new();
    let sending = code.future("send_all", (sender, sent.clone()))?;
    adapter::spawn(async move { drop(sending.await) })?;
    for received in 0..20 {
        let most = (received + CAPACITY).min(20);
        sent.reached(most).await;
        code.future("turns", ())?.await?;
        assert_eq!(sent.get(), most);
        assert_eq!(receiver.recv().await, Ok(received));
    }
    assert_eq!(receiver.recv().await, Err(RecvError));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn what_was_sent_before_the_close_is_received() -> PyResult<()> {
    let code = Code::new(USE)?;
    // Closed by either end in Rust, by either in Python, and by the last sender's drop.
    for closer in 0..5 {
        let (sender, receiver) = channel::<usize>(8);
        sender.send(1).await?;
        sender.send(2).await?;
        let (python_sender, python_receiver) = (sender.clone(), receiver.clone());
        let (python_sender, python_receiver) = Python::attach(|py| {
            let receiver = python_receiver.into_pyobject(py)?.unbind();
            PyResult::Ok((python_sender.into_pyobject(py)?.unbind(), receiver))
        })?;
        match closer {
            0 => assert!(sender.close()),
            1 => assert!(receiver.close()),
            2 => drop(Python::attach(|py| python_sender.call_method0(py, "close"))?),
            3 => drop(Python::attach(|py| python_receiver.call_method0(py, "close"))?),
            _ => {}
        }
        if closer < 4 {
            assert!(sender.is_closed() && receiver.is_closed());
            assert!(!sender.close(), "it is closed already");
            assert_eq!(sender.send(3).await, Err(SendError(3)));
            let error = code.future("send", (&python_sender, 3))?.await.expect_err("the channel is closed");
            Python::attach(|py| assert!(error.is_instance_of::<ChannelClosed>(py), "{error}"));
            assert!(error.to_string().contains("the item was not sent"), "{error}");
        }
        drop(sender);
        Python::attach(|_| drop(python_sender));
        assert_eq!(receiver.recv().await, Ok(1), "{closer}");
        let item = code.future("receive", (&python_receiver,))?.await?;
        assert_eq!(Python::attach(|py| item.extract::<usize>(py))?, 2, "{closer}");
        assert_eq!(receiver.recv().await, Err(RecvError), "{closer}");
        let error = code.future("receive", (&python_receiver,))?.await.expect_err("the channel is empty");
        Python::attach(|py| assert!(error.is_instance_of::<ChannelClosed>(py), "{error}"));
        assert!(error.to_string().contains("has been received"), "{error}");
        let rest = code.future("receive_all", (&python_receiver,))?.await?;
        assert!(Python::attach(|py| rest.extract::<Vec<usize>>(py))?.is_empty(), "{closer}");
    }
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn the_end_of_the_last_receiver_closes_the_channel() -> PyResult<()> {
    let code = Code::new(USE)?;
    let (sender, receiver) = channel::<usize>(1);
    let python_sender = Python::attach(|py| Ok::<_, PyErr>(sender.clone().into_pyobject(py)?.unbind()))?;
    let kept = receiver.clone();
    drop(receiver);
    sender.send(1).await?;
    // It waits for room.
    let mut waiting = code.future("send", (&python_sender, 2))?;
    assert!(poll!(&mut waiting).is_pending());
    code.future("send_all", (channel::<usize>(1).0, 0))?.await?;
    drop(kept);
    let error = waiting.await.expect_err("nobody receives");
    Python::attach(|py| assert!(error.is_instance_of::<ChannelClosed>(py), "{error}"));
    assert_eq!(sender.send(3).await, Err(SendError(3)));
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "60s")]
async fn what_is_not_of_the_channels_type_is_refused() -> PyResult<()> {
    let code = Code::new(USE)?;
    let (sender, receiver) = channel::<usize>(1);
    let error = code.future("send", (sender, "text"))?.await.expect_err("it is not a number");
    Python::attach(|py| assert!(error.is_instance_of::<PyTypeError>(py), "{error}"));
    // The exception has the frame that has the sender.
    assert!(poll!(std::pin::pin!(receiver.recv())).is_pending());
    drop(error);
    Ok(())
}

#[pyo3_await::test(crate = adapter, timeout = "120s")]
async fn random_cancellations_lose_and_double_nothing() -> PyResult<()> {
    const ITEMS: usize = 1_000;
    const TASKS: usize = 4;

    let code = Code::new(
        c"
import random

async def receive_some(receiver, seed):
    chance, items = random.Random(seed), []
    while True:
        task = asyncio.ensure_future(receiver.receive())
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            continue
        if task.exception() is not None:
            return items
        items.append(task.result())

# What was cancelled was not sent: it is sent again.
async def send_some(sender, seed, number):
    chance, index = random.Random(seed), 0
    while index < number:
        task = asyncio.ensure_future(sender.send(index))
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
            index += 1
",
    )?;
    // Several receivers share what Rust sends.
    let (sender, receiver) = channel::<usize>(3);
    let receivers =
        (0..TASKS).map(|seed| code.future("receive_some", (receiver.clone(), seed))).collect::<PyResult<Vec<_>>>()?;
    drop(receiver);
    let send = async move {
        let mut random = Random::new(1);
        for number in 0..ITEMS {
            for _ in 0..random.below(3) {
                turn().await;
            }
            sender.send(number).await?;
        }
        PyResult::Ok(())
    };
    let (received, sent) = futures::join!(join_all(receivers), send);
    sent?;
    let mut items = Vec::new();
    for list in received {
        let list: Vec<usize> = Python::attach(|py| list?.extract(py))?;
        assert!(list.is_sorted(), "each receiver gets its items in order");
        items.extend(list);
    }
    items.sort_unstable();
    assert!(items.into_iter().eq(0..ITEMS));

    // Several senders.
    let (sender, receiver) = channel::<usize>(3);
    let senders = (0..TASKS)
        .map(|seed| code.future("send_some", (sender.clone(), seed, ITEMS / TASKS)))
        .collect::<PyResult<Vec<_>>>()?;
    drop(sender);
    let (sent, items) = futures::join!(join_all(senders), receiver.collect::<Vec<_>>());
    sent.into_iter().try_for_each(|sent| sent.map(drop))?;
    let mut counts = vec![0; ITEMS / TASKS];
    for item in items {
        counts[item] += 1;
    }
    assert!(counts.into_iter().all(|count| count == TASKS));
    Ok(())
}
