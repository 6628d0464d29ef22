"""`python -m everlog.testing.postgres run [--data DIR] -- COMMAND…`: a command with a PostgreSQL beside it."""

import argparse
import signal
import sys
from pathlib import Path

from everlog.testing.beside import run
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
