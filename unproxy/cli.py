"""The command line: `unproxy VERB …`. Data goes to stdout, talk to stderr.

Exit codes: 0 done, 1 failed, 2 called wrongly (one line says what to do), 130 ended by Ctrl-C.
A verb imports its own command module only, and that imports heavy modules inside its functions.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from unproxy.commands import FIXABLE_NAMES, LazyGroup
from unproxy.errors import Failed
from unproxy.options import State, example
from unproxy.output import guard, notify

EXIT_FAILED = 1
EXIT_CALLED_WRONGLY = 2
EXIT_INTERRUPTED = 130
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

app = typer.Typer(
    name="unproxy",
    cls=LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    pretty_exceptions_enable=False,
    epilog=example("up --once"),
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"unproxy {version('unproxy')}")
        except PackageNotFoundError:
            typer.echo("unproxy, from a folder that was not installed")
        raise typer.Exit


@app.callback()
def front_door(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Settings file; without it UNPROXY_CONFIG, then unproxy.toml if there is one."
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Which process on which device really talked to which destination, through which proxy, and was it allowed."""
    del version
    context.obj = State(config=config, verbose=verbose)


def main() -> None:
    """Run one command and end the process with its exit code."""
    guard()
    # Rows, logs and state tell what people did: whatever file a command creates is its owner's alone.
    os.umask(0o077)
    # Nor do Python processes that a library starts (multiprocessing) import from the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        code = run(sys.argv[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); nothing more can be said, at exit neither.
        _write_no_more()
        code = 0
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        _write_no_more()
        _report_error(
            f"{error.filename or 'the output'}: cannot be written: {error.strerror}; make room and start again"
        )
        code = EXIT_FAILED
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command; gives its exit code."""
    try:
        result = app(arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except SystemExit as leaving:
        # What typer makes of a broken pipe; it is for main to end that quietly.
        if isinstance(leaving.__context__, BrokenPipeError):
            raise leaving.__context__ from None
        raise
    except Failed as error:
        _report_error(str(error))
        return EXIT_FAILED
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        if "NoArgsIsHelpError" in names:
            typer.echo(error, err=True)
        elif names & FIXABLE_NAMES:
            _report_error(_in_words(error))
        else:
            raise
        return EXIT_CALLED_WRONGLY
    return result if isinstance(result, int) else 0


def _write_no_more() -> None:
    """What stdout still holds is let go, or Python would try it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report_error(message: str) -> None:
    for line in message.split("\n"):
        notify(line)


def _in_words(error: Exception) -> str:
    """What is wrong; for a wrong option with the place where the right ones stand."""
    if not isinstance(error, typer.BadParameter) and not hasattr(error, "format_message"):
        return str(error)
    context = getattr(error, "ctx", None)
    said = str(error.format_message()).replace(": Value error, ", ": ", 1)
    return f"{said}{'' if said.endswith(('.', '?')) else '.'} See {context.command_path} --help" if context else said
