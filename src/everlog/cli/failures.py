"""From an exception to a message that says what to do next, and to an exit code a script can read."""

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from enum import IntEnum

from everlog.cli.output import Output
from everlog.core.errors import EverlogError, InvalidInput


class ExitCode(IntEnum):
    """What every command exits with."""

    OK = 0
    FOUND = 1
    USAGE = 2
    NOT_FOUND = 3
    PERMISSION = 4
    CONFLICT = 5
    UNAVAILABLE = 6
    PARTIAL = 7
    UNEXPECTED = 70
    INTERRUPTED = 130


MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FOUND: "ran, and found what it looks for: a problem, an event nobody can read, a type without upcaster",
    ExitCode.USAGE: "the command line, a setting, the application or the input is wrong; nothing was done",
    ExitCode.NOT_FOUND: "the log, stream, event or file is not there, or belongs to another tenant",
    ExitCode.PERMISSION: "this user may not read or write that file",
    ExitCode.CONFLICT: "the log moved on, or away; another version than expected, a known id, a type's breaking change",
    ExitCode.UNAVAILABLE: "the store or a device cannot serve now; try again",
    ExitCode.PARTIAL: "done in part: standard error says what was left out",
    ExitCode.UNEXPECTED: "an error nobody foresaw, in everlog or in the application; `-d` shows where",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C; standard error says how to go on",
}

EXIT_CODES: Mapping[str, ExitCode] = {
    "misconfigured": ExitCode.USAGE,
    "invalid_input": ExitCode.USAGE,
    "unsafe_settings": ExitCode.USAGE,
    "incompatible_store": ExitCode.USAGE,
    "not_found": ExitCode.NOT_FOUND,
    "rejected": ExitCode.FOUND,
    "unreadable_event": ExitCode.FOUND,
    "unknown_event_type": ExitCode.FOUND,
    "payload_released": ExitCode.FOUND,
    "subscription_failed": ExitCode.FOUND,
    "subscription_stopped": ExitCode.FOUND,
    "handler_died": ExitCode.FOUND,
    "append_condition_failed": ExitCode.CONFLICT,
    "wrong_expected_version": ExitCode.CONFLICT,
    "idempotency_conflict": ExitCode.CONFLICT,
    "fenced": ExitCode.CONFLICT,
    "log_closed": ExitCode.CONFLICT,
    "store_unavailable": ExitCode.UNAVAILABLE,
    "outcome_unknown": ExitCode.UNAVAILABLE,
    "wait_timeout": ExitCode.UNAVAILABLE,
    "not_ready": ExitCode.UNAVAILABLE,
    "broker_unavailable": ExitCode.UNAVAILABLE,
    "broker_moved": ExitCode.CONFLICT,
    "foreign_messages": ExitCode.CONFLICT,
    "later_incarnation": ExitCode.CONFLICT,
    "transient": ExitCode.UNAVAILABLE,
}
"""By the error's code."""

_HINTS: Mapping[str, str] = {
    "wrong_expected_version": "`everlog stream show STREAM` shows what came first",
    "unreadable_event": "`everlog schema replay` lists every event that today's code cannot read",
    "unknown_event_type": "`everlog schema replay` lists every event that today's code cannot read",
    "store_unavailable": "`everlog doctor` says more about the store",
    "outcome_unknown": "look what is there before you run it again; with a --request-id it may run any number of times",
}


def exit_code(error: BaseException) -> ExitCode:
    if isinstance(error, EverlogError):
        if _caused_by_permission(error):
            return ExitCode.PERMISSION
        return EXIT_CODES.get(error.code, ExitCode.UNEXPECTED)
    match error:
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case PermissionError():
            return ExitCode.PERMISSION
        case FileNotFoundError():
            return ExitCode.NOT_FOUND
        case IsADirectoryError() | NotADirectoryError() | FileExistsError():
            return ExitCode.USAGE
        case OSError():
            return ExitCode.UNAVAILABLE
        case _:
            return ExitCode.UNEXPECTED


def run(output: Output, command: Callable[[], int | None], *, debug: bool) -> int:
    """Run one command to its end: whatever it raises is told, its exit code returned, and its output is whole."""
    try:
        code = _told(output, command, debug)
        output.end(code)
    except BrokenPipeError:
        # The reader has seen enough (`| head`). What is still buffered must go nowhere, or Python complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    return code


def _told(output: Output, command: Callable[[], int | None], debug: bool) -> int:
    try:
        return command() or ExitCode.OK
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as error:
        output.fail(str(error) or "interrupted: nothing was left half done", code="interrupted")
        return ExitCode.INTERRUPTED
    except Exception as error:
        if debug:
            output.words.print(traceback.format_exc().rstrip(), markup=False)
        return tell(output, error)


def tell(output: Output, error: Exception) -> ExitCode:
    """Say it on standard error."""
    code = exit_code(error)
    if isinstance(error, EverlogError):
        output.fail(str(error), code=error.code, hint=_HINTS.get(error.code, ""))
    elif code is not ExitCode.UNEXPECTED:
        output.fail(_of_system(error), code=code.name.lower())
    else:
        where = traceback.extract_tb(error.__traceback__)[-1]
        output.fail(
            f"{type(error).__name__}: {error} (in {where.name} of {where.filename})",
            code="unexpected",
            hint="run it again with -d for the traceback; if it is not your code, it is a bug of everlog",
        )
    return code


def usage(message: str) -> InvalidInput:
    """Options that do not go together."""
    return InvalidInput(message)


def _caused_by_permission(error: BaseException) -> bool:
    cause = error.__cause__
    return cause is not None and (isinstance(cause, PermissionError) or _caused_by_permission(cause))


def _of_system(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
