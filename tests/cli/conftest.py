"""A folder with an application, a log whose every time is known, and two ways to run a line: here, or as a process."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer.testing
from typer.testing import CliRunner

from everlog.adapters.sqlite import SqliteSettings, SqliteStore
from everlog.cli import app
from everlog.core.envelope import Append, NewEvent
from everlog.core.ids import derived_id

HERE = Path(__file__).parent
URL = "sqlite:///shop.db"
PROGRAM = [sys.executable, "-c", "import sys; from everlog.cli import main; sys.exit(main())"]
CORRELATION = "00000000-0000-4000-8000-0000000000c1"


@dataclass(frozen=True)
class Ran:
    """What a line led to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def data(self) -> Any:
        return self.json["data"]

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the line runs; no setting of this machine gets in."""
    monkeypatch.chdir(tmp_path)
    for name in ("EVERLOG_APP", "EVERLOG_STORE", "EVERLOG_BROKER", "EVERLOG_TENANT", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture
def shop(folder: Path) -> Path:
    """The application, named by the project file."""
    shutil.copy(HERE / "shop.py", folder / "shop.py")
    (folder / "everlog.toml").write_text('app = "shop:platform"\n')
    return folder


# The runner makes the parsers of all commands anew for each line, which takes longer than most lines.
typer.testing._get_command = functools.cache(typer.testing._get_command)  # type: ignore[attr-defined]


def here(*line: str, stdin: str | bytes = b"", env: dict[str, str] | None = None) -> Ran:
    """Run a line in this process."""
    ran = CliRunner().invoke(app, list(line), input=stdin, env=env, catch_exceptions=False)
    return Ran(ran.exit_code, ran.stdout, ran.stderr)


def process(*line: str, stdin: str = "", env: dict[str, str] | None = None) -> Ran:
    """Run a line as a user does."""
    environment = os.environ | (env or {})
    ran = subprocess.run(
        [*PROGRAM, *line], input=stdin, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


@contextmanager
def running(*line: str) -> Iterator["subprocess.Popen[str]"]:
    it = subprocess.Popen([*PROGRAM, *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield it
    except BaseException:
        it.kill()
        it.communicate()
        raise


def ended(it: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = it.communicate(timeout=60)
    return it.returncode, out, err


def until_told(it: "subprocess.Popen[str]", meant: Callable[[str], bool]) -> str:
    assert it.stderr is not None
    return next(line for line in it.stderr if meant(line))


def interrupted(*line: str, when: Callable[[str], bool]) -> Ran:
    """Press Ctrl-C once a line on standard error says that it is far enough."""
    # A file takes all of the data: nobody reads a pipe while we wait for that line.
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(
            [*PROGRAM, *line], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, text=True
        ) as it,
    ):
        assert it.stderr is not None
        told = []
        for text in it.stderr:
            told.append(text)
            if when(text):
                it.send_signal(signal.SIGINT)
                break
        try:
            _, rest = it.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            it.kill()
            raise
        out.seek(0)
        return Ran(it.returncode, out.read(), "".join(told) + rest)


def second(number: int) -> int:
    """Microseconds of 2026-01-01T00:00:00Z and so many seconds."""
    return 1_767_225_600_000_000 + number * 1_000_000


def event(
    stream: str = "order-o-1", type: str = "order.placed", data: bytes = b'{"order_id":"o-1","cents":100}', **more: Any
) -> NewEvent:
    return NewEvent(more.pop("id", os.urandom(16)), stream, type, more.pop("schema_version", 1), data, **more)


def store(path: Path, clock: Callable[[], int] = lambda: second(0)) -> SqliteStore:
    return SqliteStore(SqliteSettings(path), clock=clock)


def fill(path: Path, events: Sequence[NewEvent], tenant: str = "default") -> None:
    """Append each on its own, a second after the other."""
    now = -1

    def clock() -> int:
        return second(now)

    log = store(path, clock)
    for number, new in enumerate(events):
        now = number
        log.append(Append(tenant, (new,)))
    log.close()


def id_of(number: int) -> bytes:
    return derived_id("test", number)


@pytest.fixture(scope="session")
def diverse_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("diverse") / "shop.db"
    fill(
        path,
        [
            event(tags=("order:o-1", "vip"), actor="ann", occurred_at=second(-100), id=id_of(1)),
            event(
                "order-o-2",
                data=b'{"order_id":"o-2","cents":7}',
                tags=("order:o-2",),
                client=b'{"ip":"192.0.2.7","user_agent":"curl/8"}',
            ),
            event(type="order.shipped", data=b'{"order_id":"o-1"}', actor="bob", causation_id=id_of(1), id=id_of(3)),
            event("stock-a", "stock.counted", b'{"n":1.10}', correlation_id=UUID(CORRELATION).bytes),
            event("order-o-3", "order.completed", b'{"order_id":"o-3"}', occurred_at=second(100), id=id_of(5)),
            event("order-o-1", "order.noted", b'{"text":"=1+1"}', client=b'{"ip":"198.51.100.1"}', id=id_of(6)),
        ],
    )
    log = store(path, lambda: second(9))
    log.append(Append("acme", (event("order-o-1", data=b'{"order_id":"o-1","cents":5}', id=id_of(7)),)))
    log.close()
    return path


@pytest.fixture
def diverse(shop: Path, diverse_log: Path) -> Path:
    """Six events, recorded at 0 s to 5 s of 2026, so different that every condition leaves out some; one of acme."""
    shutil.copy(diverse_log, shop / "shop.db")
    return shop
