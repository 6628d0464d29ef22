"""What we test with, and what you can: the suite every store must pass."""

from everlog.testing.given import Decided, Given, given

__all__ = ["Decided", "Given", "given"]
