"""`m2v index` and `m2v search`."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from m2v_core.cli.console import (
    AT_LEAST_1,
    DTYPES,
    PATH,
    cancelled_by_interrupt,
    print_facts,
    progress_bars,
    size_text,
)
from m2v_core.encoder.texts import well_formed
from m2v_core.errors import InputError
from m2v_core.storage.text_files import decode_text, log_warnings

if TYPE_CHECKING:
    from m2v_core.exploration.index.searching import Hit

_SHOWN_CHARACTERS = 300  # of a text


@click.command()
@click.argument("vectors", type=PATH, help="A folder that m2v encode filled, or a .parquet file that it wrote.")
@click.option(
    "--model", help="That made the vectors. [default: as m2v encode wrote it down, which it does for folders]"
)
@click.option(
    "--engine", type=click.Choice(["usearch", "faiss"]), help="What builds and searches it. [default: usearch]"
)
@click.option(
    "--dtype",
    type=DTYPES,
    help="Precision of the index; int8, smaller and less exact, for usearch alone. [default: float16]",
)
@click.option("--threads", type=AT_LEAST_1, help="[default: one a core]")
@click.option("--restart", is_flag=True, help="Build anew what could stay.")
def index(vectors: Path, **options: Any) -> None:
    """Build the index that makes m2v search fast, beside the vectors, or bring it up to date.

    Files that were encoded since are added; where others changed, it is built anew.
    """
    build(vectors, **options)


def build(vectors: Path, **options: Any) -> None:
    """Build an index, with a bar, and say what became of it."""
    from m2v_core.exploration.index.building import build_index

    started = time.perf_counter()
    with progress_bars("rows") as show, cancelled_by_interrupt() as cancel:
        built = build_index(vectors, progress=show, cancel=cancel, **options)
    seconds = time.perf_counter() - started
    facts: dict[str, object] = {"rows": f"{built.n_rows:,}", "dim": built.record.dim}
    if not built.n_added:
        facts["added"] = "nothing, it was up to date"
    elif built.n_added < built.n_rows:
        facts["added"] = f"{built.n_added:,}"
    n_left_out = built.n_rows - built.record.n_indexed - built.record.n_copies
    if n_left_out:
        facts["left out"] = f"{n_left_out:,} of zeros, whose texts have no known token"
    if built.n_added:
        facts["speed"] = f"{built.n_added / seconds:,.0f} rows/s"
    engine_text = f"{built.record.engine}, {built.record.dtype}"
    print_facts(**facts, engine=engine_text, size=size_text(built.record.n_bytes), path=built.path)


@click.command()
@click.argument("vectors", metavar="INDEX", type=PATH, help="The folder or file of vectors, or its index.")
@click.argument("queries", metavar="QUERY...", nargs=-1, required=True, help="Texts; - reads one a line from stdin.")
@click.option("-k", "--count", "k", type=AT_LEAST_1, default=10, help="How many rows to find for each.")
@click.option("--model", help="That made the vectors. [default: as it was written down beside them]")
@click.option("--exact", is_flag=True, help="Read all vectors rather than the index.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print an object a line for each query, with all columns of the rows."
)
def search(vectors: Path, queries: tuple[str, ...], k: int, model: str | None, exact: bool, as_json: bool) -> None:
    """Find the rows whose texts mean what a query means; rows of a file are counted from 0."""
    from m2v_core.bulk.writers import row_as_json
    from m2v_core.exploration.index.searching import VectorSearch, search_texts

    texts = [text for query in queries for text in (_stdin_lines() if query == "-" else [query])]
    texts = well_formed([text for text in texts if text.strip()])  # an argument may be no UTF-8
    if not texts:
        raise InputError("There is no query. Give a text in quotes, or - and a text on each line of stdin.")
    opened = VectorSearch(vectors, exact)
    encoder = opened.load_model(model)
    log_warnings(encoder.coverage(texts).warning("the query"))
    for text, hits in zip(texts, search_texts(opened, encoder, texts, k), strict=True):
        if as_json:
            found = [{"rank": rank, **asdict(hit)} for rank, hit in enumerate(hits, 1)]
            click.echo(row_as_json({"query": text, "hits": found}))
        else:
            _show(text if len(texts) > 1 else None, hits)


def _stdin_lines() -> list[str]:
    decoded = decode_text(sys.stdin.buffer.read(), "stdin")
    log_warnings(decoded.warning)
    return decoded.text.splitlines()


def _show(query: str | None, hits: list[Hit]) -> None:
    if query is not None:
        click.secho(query, bold=True)
    if not hits:
        click.secho("Nothing: the model knows no part of the query, or no vector is there.", dim=True)
    for rank, hit in enumerate(hits, 1):
        text = " ".join((hit.text or "").split())
        shown = f"{text[:_SHOWN_CHARACTERS]}…" if len(text) > _SHOWN_CHARACTERS else text
        place = f"{hit.file}, row {hit.row:,}"
        line = f"{rank:>3}  {hit.similarity:6.3f}  {shown}{'  ' if shown else ''}"
        click.echo(line + click.style(place, dim=True))
