"""How long to wait before trying again: full jitter, so that many do not come back at once."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds; `first` doubles up to `longest`."""

    first: float = 0.2
    longest: float = 60.0

    def pause(self, failures: int, random: Random) -> float:
        """Between 0 and `first` doubled for each failure before this one, at most `longest`."""
        return random.uniform(0.0, min(self.first * 2 ** min(failures, 40), self.longest))


BACKOFF = Backoff()
