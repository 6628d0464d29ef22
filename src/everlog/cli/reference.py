"""`python -m everlog.cli.reference > docs/reference/cli.md`: the page about the command line, from its declarations."""

import inspect
from collections.abc import Iterator

import msgspec
import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from everlog.cli import times
from everlog.cli.failures import MEANINGS
from everlog.cli.grammar import Command, Shared, options_of
from everlog.cli.output import TABLE_ROWS, Envelope
from everlog.cli.root import ALONE, NOUNS, build

_BEGINNING = """\
# Command line

`everlog [OPTIONS] NOUN VERB [ARGUMENTS] [OPTIONS]`. This page is made from the program: `python -m
everlog.cli.reference > docs/reference/cli.md`. `everlog NOUN VERB --help` says the same with an example.

## Options of every command

They may stand before the noun, before the verb or behind it; what is said last counts.

{shared}

`-h`, `--help` shows the help of what stands before it, `everlog --version` the version. `everlog --install-completion`
teaches your shell to complete commands and options.

## Settings

A flag wins over the environment, that over `everlog.toml` in the current folder, that over the default; `everlog
doctor` shows what is in force and who said so.

| flag | environment | `everlog.toml` | default |
| --- | --- | --- | --- |
| `--app` | `EVERLOG_APP` | `app` | none: then `--store` is needed, and types are shown as plain JSON |
| `--store` | `EVERLOG_STORE` | `store` | the application's own |
| `--tenant` | `EVERLOG_TENANT` | `tenant` | `default` |

`--app package.module:platform` is looked for in the current folder first. A command that only looks puts no projection
of the application in force, so that it may run before a deploy.

## Output

Data goes to standard output, everything else to standard error. A `table` fits the terminal, shows {rows} records
unless `--limit` says otherwise, has times in whole seconds, and cuts what does not fit; off a terminal nothing is cut.
`plain` is one record a line, its fields apart by tabs, control characters as escapes. `csv` has a header; a cell that a
spreadsheet would run as a formula starts with a quote mark. `ndjson` is one JSON object a line. Lists are streamed in
every form but the table, so memory stays flat. Events are CloudEvents 1.0; positions are text, because JSON numbers are
not 64 bit everywhere.

`--json` is one envelope, whole even when a command fails halfway. Diagnostics are what standard error said, the `code`
of an error is that of [its class](errors.md) or `usage`.

```json
{envelope}
```

## Exit codes

| code | means |
| --- | --- |
{codes}

A reader that has seen enough (`| head`) is no error. Ctrl-C stops at a clean point and says how to go on.

## Times and points

- A time is one of {forms}.
- A point of a stream's history is {points}.

As the end of a span a day means its last microsecond, so `--since yesterday --until yesterday` is all of yesterday.

## Progress

Long work shows a bar at a terminal, and elsewhere a line every ten seconds. `--progress none` shows nothing, and
`--progress json` writes lines such as `{{"done":500,"total":9000,"count":500,"rate":8100.5,"seconds_left":1.05}}` to
standard error.
"""


def page() -> str:
    """The whole page; the same program gives the same page."""
    root = get_command(build())
    assert isinstance(root, TyperGroup)
    context = typer.Context(root, info_name="everlog")
    names = {option.name for option in options_of(Shared)}
    beginning = _BEGINNING.format(
        shared="\n".join(_items(root, context, {param.name for param in root.params if param.name in names})),
        rows=TABLE_ROWS,
        envelope=msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Envelope)), indent=2).decode(),
        codes="\n".join(f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()),
        forms=times.FORMS,
        points=times.POINT_FORMS,
    )
    lines = [beginning, *_commands("everlog", root, ALONE, context)]
    for noun, (help, commands) in NOUNS.items():
        group = root.commands[noun]
        assert isinstance(group, TyperGroup)
        lines += [f"## everlog {noun}", "", help, "", *_commands(f"everlog {noun}", group, commands, context)]
    return "\n".join(lines).rstrip() + "\n"


def _commands(path: str, group: TyperGroup, commands: tuple[Command, ...], root: typer.Context) -> Iterator[str]:
    shared = {option.name for option in options_of(Shared)}
    for one in commands:
        made = group.commands[one.verb]
        assert isinstance(made, TyperCommand)
        context = typer.Context(made, parent=root, info_name=one.verb)
        usage = " ".join(piece for param in made.params for piece in param.get_usage_pieces(context))
        yield f"{'##' if path == 'everlog' else '###'} {path} {one.verb}"
        yield ""
        if usage:
            yield f"`{path} {one.verb} {usage}`\n"
        yield inspect.cleandoc(made.help or "")
        yield ""
        yield from _items(made, context, {param.name for param in made.params} - shared)
        yield f"\n```sh\n{one.example}\n```\n"


def _items(command: TyperCommand | TyperGroup, context: typer.Context, names: set[str]) -> Iterator[str]:
    for param in command.params:
        record = param.get_help_record(context) if param.name in names else None
        if record is not None:
            yield f"- `{record[0]}`: {record[1]}"


if __name__ == "__main__":
    typer.echo(page(), nl=False)
