"""The driver in a process of its own: for what must start anew, or must not see what others have left."""

import subprocess
import sys
from pathlib import Path


def run(arguments, *more):
    """What it prints."""
    command = [sys.executable, Path(__file__).parent, "--event-loop", arguments.event_loop, "--cores", arguments.cores]
    command += ["--abi3"] if arguments.abi3 else []
    command += map(str, more)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
