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

_SHOWN_CHARACTERS = 300  # per text


@click.command()
@click.argument("vectors", type=PATH, help="A folder or a .parquet file written by m2v encode.")
@click.option("--model", help="The model of the vectors. [default: as recorded by m2v encode]")
@click.option(
    "--engine", type=click.Choice(["usearch", "faiss"]), help="Search engine of the index. [default: usearch]"
)
@click.option(
    "--dtype",
    type=DTYPES,
    help="Precision of the index; int8 is smaller and less exact, only for usearch. [default: float16]",
)
@click.option("--threads", type=AT_LEAST_1, help="[default: one per core]")
@click.option("--restart", is_flag=True, help="Rebuild an up-to-date index.")
def index(vectors: Path, **options: Any) -> None:
    """Build or update the index next to the vectors, which makes m2v search fast.

    Newly encoded files are added; if other files changed, the index is rebuilt.
    """
    build(vectors, **options)


def build(vectors: Path, **options: Any) -> None:
    """Build an index with a progress bar, and print the result."""
    from m2v_core.exploration.index.building import build_index

    started = time.perf_counter()
    with progress_bars("rows") as show, cancelled_by_interrupt() as cancel:
        built = build_index(vectors, progress=show, cancel=cancel, **options)
    seconds = time.perf_counter() - started
    facts: dict[str, object] = {"rows": f"{built.n_rows:,}", "dim": built.record.dim}
    if not built.n_added:
        facts["added"] = "nothing, the index was up to date"
    elif built.n_added < built.n_rows:
        facts["added"] = f"{built.n_added:,}"
    n_left_out = built.n_rows - built.record.n_indexed - built.record.n_copies
    if n_left_out:
        facts["left out"] = f"{n_left_out:,} rows of zeros, whose texts have no known token"
    if built.n_added:
        facts["speed"] = f"{built.n_added / seconds:,.0f} rows/s"
    engine_text = f"{built.record.engine}, {built.record.dtype}"
    print_facts(**facts, engine=engine_text, size=size_text(built.record.n_bytes), path=built.path)


@click.command()
@click.argument("vectors", metavar="INDEX", type=PATH, help="The folder or file of vectors, or its index.")
@click.argument("queries", metavar="QUERY...", nargs=-1, required=True, help="Texts; - reads one per line from stdin.")
@click.option("-k", "--count", "k", type=AT_LEAST_1, default=10, help="Number of results per query.")
@click.option("--model", help="The model of the vectors. [default: as recorded with them]")
@click.option("--exact", is_flag=True, help="Read all vectors instead of the index.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per query, with all columns of the rows.")
def search(vectors: Path, queries: tuple[str, ...], k: int, model: str | None, exact: bool, as_json: bool) -> None:
    """Find the rows with the texts most similar in meaning to a query; rows are counted from 0."""
    from m2v_core.bulk.writers import row_as_json
    from m2v_core.exploration.index.searching import VectorSearch, search_texts

    texts = [text for query in queries for text in (_stdin_lines() if query == "-" else [query])]
    texts = well_formed([text for text in texts if text.strip()])  # arguments may be invalid UTF-8
    if not texts:
        raise InputError("There is no query. Pass a text in quotes, or - and one text per line on stdin.")
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
        click.secho("No results: the query contains no known token, or there are no vectors.", dim=True)
    for rank, hit in enumerate(hits, 1):
        text = " ".join((hit.text or "").split())
        shown = f"{text[:_SHOWN_CHARACTERS]}…" if len(text) > _SHOWN_CHARACTERS else text
        place = f"{hit.file}, row {hit.row:,}"
        line = f"{rank:>3}  {hit.similarity:6.3f}  {shown}{'  ' if shown else ''}"
        click.echo(line + click.style(place, dim=True))
