"""A program that executes one request and dies at a named point: `python -m tests.command.crashing URL SIDE POINT`."""

import os
import sys
from typing import cast

from tests.command.counting import Add, counters, platform
from tests.command.sides import Side, opened


def main(url: str, side: str, point: str) -> None:
    def crash(reached: str) -> None:
        if reached == point:
            os._exit(9)

    with opened(cast(Side, side), platform, url, crash=crash) as log:
        log.tenant("acme").execute(counters, "c", Add(3), request_id="r-1")


if __name__ == "__main__":
    main(*sys.argv[1:])
