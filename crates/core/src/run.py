"""The main coroutine of an event loop that Rust runs."""

import asyncio


async def main(coroutine, ending):
    """Awaits, and then what this has cancelled: the end of the loop would cancel it once more, in its clean-up."""
    try:
        return await coroutine
    except GeneratorExit:
        # A coroutine that is closed cannot wait.
        ending = list
        raise
    finally:
        while tasks := set(ending()) - {asyncio.current_task()}:
            await asyncio.wait(tasks)
