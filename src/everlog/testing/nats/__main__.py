"""`python -m everlog.testing.nats run [--nodes 3] [--data DIR] -- COMMAND…`: a command with a NATS broker beside it."""

import argparse
import signal
import sys
from pathlib import Path

from everlog.testing.beside import run
from everlog.testing.nats.binaries import NatsNotFound
from everlog.testing.nats.node import NatsFailed
from everlog.testing.nats.running import running


def main() -> int:
    given = _arguments()
    try:
        with running(given.nodes, folder=given.data) as broker:
            url = broker.url(given.stream)
            print(f"NATS, {given.nodes} node{'s' * (given.nodes > 1)}: {url}", file=sys.stderr)
            return run(given.command, {"EVERLOG_BROKER": url})
    except (NatsNotFound, NatsFailed) as error:
        print(error, file=sys.stderr)
        return 125  # as `env` and `timeout` say that it was they who failed, not the command
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m everlog.testing.nats")
    runs = parser.add_subparsers(required=True).add_parser(
        "run", help="start a broker, run COMMAND with its URL in EVERLOG_BROKER, and stop the broker again"
    )
    runs.add_argument("--nodes", type=int, default=1, metavar="N", help="3 make a cluster (default: 1)")
    runs.add_argument("--stream", default="EVENTS", metavar="NAME", help="the stream in the URL (default: EVENTS)")
    runs.add_argument("--data", type=Path, metavar="DIR", help="keep the data there; otherwise they are removed")
    runs.add_argument("command", nargs="+", metavar="COMMAND", help="after --")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
