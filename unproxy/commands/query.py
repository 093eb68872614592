"""`unproxy query`: runs a query in SQL or KQL on the tables."""

from __future__ import annotations

from typing import Annotated

import typer

from unproxy.commands.hunt import write
from unproxy.errors import Fixable
from unproxy.options import DataOption, RawCsvOption, state_of
from unproxy.query.formats import Format


def query(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The question; - reads it from standard input.")],
    data: DataOption = None,
    output: Annotated[Format, typer.Option("--format", help="How to write the answer.")] = Format.TABLE,
    raw_csv: RawCsvOption = False,
    is_kql: Annotated[bool, typer.Option("--kql", help="TEXT is KQL, as for `hunt`, not SQL.")] = False,
) -> None:
    """Run a read-only query in SQL or KQL on the tables.

    It runs on the ClickHouse server of the settings, if they name one and --data is not given. Otherwise it runs on a
    running `unproxy up`; if none runs, on its data folder.
    """
    from unproxy.local.connect import tables
    from unproxy.query import answer, formats
    from unproxy.query.hunt import Hunt, Limits, prepared

    state = state_of(context)
    question = typer.get_text_stream("stdin").read() if text == "-" else text
    if not question.strip():
        raise Fixable("the question is empty; write it in SQL, or in KQL with --kql")
    with tables(state, data) as client:
        if is_kql:
            limits = Limits()
            write(client, prepared(client, Hunt(question)), limits, formats.HuntFormat(output), raw_csv=raw_csv)
        else:
            answer.show(client, question, {}, output, formats.screen_width(), raw_csv=raw_csv)
