"""What every case's Python code finds defined."""

import asyncio


class Gate:
    """Those who wait at it go on when it is opened, by any thread."""

    def __init__(self):
        self.event = asyncio.Event()
        self.loop = None

    async def wait(self):
        self.loop = asyncio.get_running_loop()
        await self.event.wait()

    def open(self):
        # Whoever opens it before anybody waits does so on the loop's thread, or has to see to the order.
        if self.loop is None:
            self.event.set()
        else:
            self.loop.call_soon_threadsafe(self.event.set)
