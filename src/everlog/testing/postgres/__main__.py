"""`python -m everlog.testing.postgres run [--data DIR] -- COMMAND…`: a command with a PostgreSQL beside it."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from everlog.testing.postgres.binaries import PostgresNotFound
from everlog.testing.postgres.running import running
from everlog.testing.postgres.server import PostgresFailed


def main() -> int:
    given = _arguments()
    try:
        with running(given.data) as server:
            version, place = ".".join(map(str, server.version)), given.data or server.folder
            print(f"PostgreSQL {version} in {place}: {server.url()}", file=sys.stderr)
            return run(given.command, {"EVERLOG_STORE": server.url()})
    except (PostgresNotFound, PostgresFailed) as error:
        print(error, file=sys.stderr)
        return 125  # as `env` and `timeout` say that it was they who failed, not the command
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m everlog.testing.postgres")
    runs = parser.add_subparsers(required=True).add_parser(
        "run", help="start a server, run COMMAND with its URL in EVERLOG_STORE, and stop the server again"
    )
    runs.add_argument("--data", type=Path, metavar="DIR", help="keep the data there; otherwise they are removed")
    runs.add_argument("command", nargs="+", metavar="COMMAND", help="after --")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
