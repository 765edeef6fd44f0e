"""Stands in for uvloop, to show who is asked to run a program."""

import asyncio


def run(main):
    print("uvloop.run")
    asyncio.run(main)
