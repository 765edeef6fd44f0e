"""The main coroutine of an event loop that Rust runs."""

import asyncio
import sys


async def main(coroutine, ending):
    """Awaits, and then what this has cancelled: the end of the loop would cancel it once more, in its clean-up."""
    try:
        return await coroutine
    finally:
        # A coroutine that is closed cannot wait.
        if not isinstance(sys.exc_info()[1], GeneratorExit):
            while tasks := ending():
                await asyncio.wait(tasks)
