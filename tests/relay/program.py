"""A process that relays, and gives itself a signal at one point of its work: `python -m tests.relay.program …`."""

from __future__ import annotations

import signal
import sys
import threading
import time

from tests.relay.parts import relay_of, shop


def main() -> None:
    url, broker, prefix, point, nth, number = sys.argv[1:]
    left = int(nth)

    def crash(reached: str) -> None:
        nonlocal left
        if reached == point:
            left -= 1
            if left == 0:
                # This very thread: one sent to the process lets it go on until another thread takes notice.
                signal.pthread_kill(threading.get_ident(), getattr(signal, number))

    platform = shop(url, relay_of(prefix))
    with platform.open(worker=True, relays_to=broker, lease_seconds=0.5, crash=crash):
        while True:
            time.sleep(1)


if __name__ == "__main__":
    main()
