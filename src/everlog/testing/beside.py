"""A command run beside a server that we started for it: what the launchers' `run` does."""

import os
import signal
import subprocess
import sys
from types import FrameType


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run a command to its end, pass on what we are told, and answer as a shell would."""
    told: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        # At a terminal, Ctrl-C reaches the command without us.
        if child is not None and not (number == signal.SIGINT and sys.stdin.isatty()):
            child.send_signal(number)

    # Handlers, not SIG_IGN: the command would inherit that.
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        child = subprocess.Popen(command, env={**os.environ, **environment})
        for number in told:  # before there was anybody to tell
            child.send_signal(number)
        status = child.wait()
    except FileNotFoundError:
        print(f"{command[0]}: no such command", file=sys.stderr)
        return 127
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status
