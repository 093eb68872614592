"""The command line: `unproxy COMMAND …`. Data goes to stdout, messages to stderr.

Exit codes: 0 done, 1 failed, 2 called wrongly (one line states what to do), 130 ended by Ctrl-C.
Only the module of the requested command is imported; it imports heavy modules inside its functions.
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
    add_completion=True,
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
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more to stderr.")] = False,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Show which process on which device connected to which destination, through which proxy, and whether it was allowed."""
    del version
    context.obj = State(config=config, verbose=verbose)


def main() -> None:
    """Run one command and end the process with its exit code."""
    guard()
    # Rows, logs and state show what people did: only the owner may read the files that a command creates.
    os.umask(0o077)
    # Python processes that a library starts (multiprocessing) must not import from the current folder, either.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        code = run(sys.argv[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of stdout has ended (`| head`), so nothing more can be written, not even at exit.
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
    """Run one command; return its exit code."""
    try:
        result = app(arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        # Objects that were being made are freed with this exception. Since Python 3.13 their closing reports errors.
        sys.unraisablehook = lambda _: None
        return EXIT_INTERRUPTED
    except SystemExit as leaving:
        # typer turns a broken pipe into SystemExit; `main` must get the original error.
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
    """Discard the text that stdout still buffers, which Python would otherwise try to write at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report_error(message: str) -> None:
    from unproxy import telemetry

    if telemetry.report_error(message):
        return
    for line in message.split("\n"):
        notify(line)


def _in_words(error: Exception) -> str:
    """Return the message of an error; for a wrong option, add the command that lists the options."""
    if not isinstance(error, typer.BadParameter) and not hasattr(error, "format_message"):
        return str(error)
    context = getattr(error, "ctx", None)
    message = str(error.format_message()).replace(": Value error, ", ": ", 1)
    if not context:
        return message
    return f"{message}{'' if message.endswith(('.', '?')) else '.'} See {context.command_path} --help"
