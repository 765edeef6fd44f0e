import asyncio


async def add_up(numbers):
    """The sum, added by one task for each number."""
    total = 0

    async def add(number):
        nonlocal total
        await asyncio.sleep(0)
        total += number

    await asyncio.gather(*map(add, numbers))
    return total
