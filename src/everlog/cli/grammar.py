"""How commands are declared: `everlog <noun> <verb>`, the same options everywhere, and an example in every help.

A parameter that is a dataclass is a group of options: its fields become options of the command, so that a group is
written once. `Shared` is the group that every command has, and every noun, and `everlog` itself.
"""

import dataclasses
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

import typer
import typer.core
from typer.exceptions import TyperException

from everlog.cli.failures import ExitCode, run, usage
from everlog.cli.opening import Call
from everlog.cli.output import Format, Output, make_streams_safe

P = ParamSpec("P")
R = TypeVar("R", bound=int | None)

_CONTEXT = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True)
class Shared:
    """What can be said of any command, before or behind the verb; what is said last counts."""

    app: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:NAME", help="The application, as shop:platform. Or set EVERLOG_APP."),
    ] = None
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="The log, instead of the application's. Or set EVERLOG_STORE."),
    ] = None
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", metavar="NAME", help="Whose log. Or set EVERLOG_TENANT; else default."),
    ] = None
    output: Annotated[
        Format | None,
        typer.Option("-o", "--output", help="The form of the data."),
    ] = None
    json: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No notes and no progress, only errors.")] = False
    debug: Annotated[bool, typer.Option("-d", "--debug", help="Show the traceback of an error.")] = False
    no_color: Annotated[bool, typer.Option("--no-color", help="No colors. Or set NO_COLOR.")] = False

    def check(self) -> None:
        if self.json and self.output not in (None, Format.JSON):
            raise usage(f"--json and -o {self.output} exclude each other: leave one of them out")

    def call(self) -> Call:
        form = Format.JSON if self.json else self.output or Format.TABLE
        output = Output(form, quiet=self.quiet, color=not self.no_color)
        return Call(output, {"app": self.app, "store": self.store, "tenant": self.tenant})


class Everlog(typer.core.TyperGroup):
    """The whole command line. What is wrong with a line is told like every other error."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        make_streams_safe()
        given = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(given, "everlog", complete_var, False, windows_expand_args, **extra) or ExitCode.OK
        except TyperException as error:
            code = _tell_usage(error, given)
        except typer.Abort:
            code = ExitCode.INTERRUPTED
        if standalone_mode:
            sys.exit(code)
        return code


@dataclass(frozen=True)
class Command:
    """One verb. The function is given a `Call` and its options, and gives the exit code, or `None` for 0."""

    verb: str
    function: Callable[..., int | None]
    example: str


def command(verb: str, *, example: str) -> Callable[[Callable[Concatenate[Call, P], R]], Command]:
    """Make a function a command; its docstring is its help, and `example` one line or several."""
    return lambda function: Command(verb, function, inspect.cleandoc(example))


def new_root(callback: Callable[..., None], commands: Sequence[Command]) -> typer.Typer:
    """`everlog` itself, with the verbs that stand without a noun."""
    root = typer.Typer(cls=Everlog, context_settings=_CONTEXT, rich_markup_mode=None, no_args_is_help=True)
    root.callback()(_with_options(callback, _remember))
    _add(root, commands)
    return root


def add_noun(root: typer.Typer, name: str, help: str, commands: Sequence[Command]) -> None:
    noun = typer.Typer(context_settings=_CONTEXT, rich_markup_mode=None, no_args_is_help=True)
    noun.callback()(_with_options(_no_options, _remember))
    _add(noun, commands)
    root.add_typer(noun, name=name, help=help)


def _add(typer_: typer.Typer, commands: Sequence[Command]) -> None:
    for one in commands:
        examples = "\n".join(f"  {line}" for line in one.example.splitlines())
        # \b keeps the lines apart.
        epilog = f"\b\nFor example:\n{examples}"
        typer_.command(one.verb, epilog=epilog, context_settings=_CONTEXT)(_with_options(one.function, _run))


def _no_options() -> None: ...


def _run(function: Callable[..., int | None], context: typer.Context, shared: dict[str, Any], own: Any) -> int:
    options = Shared(**{**(context.obj or {}), **shared})
    call = options.call()

    def checked() -> int | None:
        options.check()
        return function(call, **own)

    return run(call.output, checked, debug=options.debug)


def _remember(function: Callable[..., None], context: typer.Context, shared: dict[str, Any], own: Any) -> None:
    context.obj = {**(context.obj or {}), **shared}
    function(**own)


def _with_options(function: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    """A function as typer wants it: its own options, those of its groups, and the shared ones."""
    parameters, groups = _own(function)
    every = [*parameters, *[option for group in groups.values() for option in options_of(group)], *options_of(Shared)]

    def called(context: typer.Context, **given: Any) -> Any:
        own = {parameter.name: given[parameter.name] for parameter in parameters}
        for name, group in groups.items():
            own[name] = group(**{option.name: given[option.name] for option in options_of(group)})
        # What was not said must not take back what was said before the verb.
        said = {
            option.name: given[option.name] for option in options_of(Shared) if given[option.name] not in (None, False)
        }
        return then(function, context, said, own)

    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    called.__signature__ = inspect.Signature([context, *every])  # type: ignore[attr-defined]
    called.__name__, called.__doc__ = function.__name__, function.__doc__
    called.__annotations__ = {}
    return called


def _own(function: Callable[..., Any]) -> tuple[list[inspect.Parameter], dict[str, type]]:
    parameters, groups = [], {}
    for parameter in inspect.signature(function).parameters.values():
        if dataclasses.is_dataclass(parameter.annotation) and isinstance(parameter.annotation, type):
            if parameter.annotation is not Call:
                groups[parameter.name] = parameter.annotation
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    return parameters, groups


@functools.cache
def options_of(group: type) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[field.name], default=field.default
        )
        for field in dataclasses.fields(group)
    ]


def _tell_usage(error: TyperException, given: Sequence[str]) -> int:
    """The line could not be read, so its plain words must do to find out whether JSON was asked for."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # not exported by typer; its message is the help
        sys.stderr.write(f"{error.format_message()}\n")
        return ExitCode.USAGE
    output = Output(Format.JSON if _asks_for_json(given) else Format.TABLE)
    hint = f"`{context.command_path} --help` shows what can be said" if context is not None else ""
    output.fail(error.format_message(), code="usage", hint=hint)
    output.end(ExitCode.USAGE)
    return ExitCode.USAGE


def _asks_for_json(given: Sequence[str]) -> bool:
    pairs = zip(given, [*given[1:], ""], strict=True)
    return any(
        word in ("--json", "-ojson", "--output=json") or pair == "json" for word, pair in pairs if word[:1] == "-"
    )
