"""`everlog`: the same operations at a terminal. `main` is the entry; `root` is the table of all commands."""

from collections.abc import Sequence

from everlog.cli.root import build

app = build()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and give its exit code."""
    return int(app(arguments, standalone_mode=False))


__all__ = ["app", "main"]
