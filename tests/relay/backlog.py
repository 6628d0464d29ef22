"""A relay far behind, measured by itself: `python -m tests.relay.backlog URL BROKER PREFIX` prints how much it grew."""

from __future__ import annotations

import resource
import sys

from everlog.app.relaying import relay_lags
from tests.relay.parts import counted, eventually, relay_of, shop


def main() -> None:
    url, broker, prefix = sys.argv[1:]
    platform = shop(url, relay_of(prefix))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with platform.open(worker=True, relays_to=broker) as log:
        eventually(lambda: any(one.relayed and one.relayed.copy.messages for one in relay_lags(log.store)))
        eventually(lambda: relay_lags(log.store)[0].events == 0, seconds=120)
        counted(log, range(1))
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


if __name__ == "__main__":
    main()
