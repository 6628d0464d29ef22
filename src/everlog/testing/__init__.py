"""What we test with, and what you can: the suite every store must pass."""

from everlog.testing.given import Decided, Given, given
from everlog.testing.replay import Commanded, Replay, happened, replayed

__all__ = ["Commanded", "Decided", "Given", "Replay", "given", "happened", "replayed"]
