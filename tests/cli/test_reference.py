"""Help and the reference page: complete, with examples that are commands, and never stale."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import everlog
from everlog.cli.output import Output
from everlog.cli.reference import page
from everlog.cli.root import ALONE, NOUNS, build
from tests.cli.conftest import here

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
COMMANDS = {
    **{one.verb: one for one in ALONE},
    **{f"{noun} {one.verb}": one for noun, (_, commands) in NOUNS.items() for one in commands},
}


def commands(group: TyperGroup, path: str = "") -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path}{name} ")
        elif isinstance(command, TyperCommand):
            yield f"{path}{name}", command


def tree() -> dict[str, TyperCommand]:
    root = get_command(build())
    assert isinstance(root, TyperGroup)
    return dict(commands(root))


def test_the_reference_page_is_not_stale() -> None:
    assert PAGE.read_text() == page(), "python -m everlog.cli.reference > docs/reference/cli.md"


def test_every_command_and_option_is_on_the_page_and_explained() -> None:
    text = PAGE.read_text()
    assert set(tree()) == set(COMMANDS)
    for path, command in tree().items():
        assert f"# everlog {path}\n" in text
        for param in command.params:
            assert getattr(param, "help", ""), f"{path} {param.name}"
            assert all(option in text for option in param.opts if option.startswith("-"))


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_the_help_of_a_command_says_what_it_does_and_shows_an_example(path: str) -> None:
    ran = here(*path.split(), "--help")
    assert ran.code == 0
    assert (COMMANDS[path].function.__doc__ or "").split(".")[0].split()[0] in ran.out
    assert all(f"  {line}" in ran.out for line in COMMANDS[path].example.splitlines())
    assert here(*path.split(), "-h").out == ran.out


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_an_example_is_a_command(path: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []

    def only_read(output: Output, command: Callable[[], int | None], *, debug: bool) -> int:
        ran.append(command)
        return 0

    monkeypatch.setattr("everlog.cli.grammar.run", only_read)
    for example in COMMANDS[path].example.splitlines():
        words = shlex.split(re.split(r" \| | && | > ", example)[0])
        told = here(*words[1:])
        assert (words[0], told.code) == ("everlog", 0), told.err
        assert set(path.split()) <= set(words)
    assert len(ran) == len(COMMANDS[path].example.splitlines())


def test_the_version_is_told() -> None:
    assert here("--version").out == f"everlog {everlog.__version__}\n"


def test_without_a_command_the_help_goes_to_standard_error() -> None:
    ran = here()
    assert (ran.code, ran.out) == (2, "")
    assert "Commands:" in ran.err
