"""These tests follow logs, as those of `tests.following` do, and where they do."""

from tests.following.conftest import tmp_path, url

__all__ = ["tmp_path", "url"]
