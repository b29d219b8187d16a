"""`m2v index` and `m2v search`."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from m2v_core.cli.console import (
    cancelled_by_interrupt,
    errors_as_lines,
    print_facts,
    progress_bars,
    results,
    size_text,
)
from m2v_core.errors import InputError

if TYPE_CHECKING:
    from m2v_core.search.searching import Hit

_SHOWN_CHARACTERS = 300  # of a text


@errors_as_lines()
def index(
    vectors: Annotated[Path, typer.Argument(help="A folder that m2v encode filled, or a .parquet file that it wrote.")],
    model: Annotated[
        str | None,
        typer.Option(help="That made the vectors. [default: as m2v encode wrote it down, which it does for folders]"),
    ] = None,
    engine: Annotated[
        Literal["usearch", "faiss"] | None, typer.Option(help="What builds and searches it. [default: usearch]")
    ] = None,
    dtype: Annotated[
        Literal["float32", "float16", "int8"] | None,
        typer.Option(
            help="Precision of the index; int8, smaller and less exact, for usearch alone. [default: float16]"
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="[default: one a core]", min=1)] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Build anew what could stay.")] = False,
) -> None:
    """Build the index that makes m2v search fast, beside the vectors, or bring it up to date.

    Files that were encoded since are added; where others changed, it is built anew.
    """
    build(vectors, model, engine, dtype, threads, restart)


def build(
    vectors: Path,
    model: str | None = None,
    engine: Literal["usearch", "faiss"] | None = None,
    dtype: Literal["float32", "float16", "int8"] | None = None,
    threads: int | None = None,
    restart: bool = False,
) -> None:
    """Build an index, with a bar, and say what became of it."""
    from m2v_core.search.index import build_index

    started = time.perf_counter()
    with progress_bars("rows") as show, cancelled_by_interrupt() as cancel:
        built = build_index(
            vectors,
            model=model,
            engine=engine,
            dtype=dtype,
            threads=threads,
            restart=restart,
            progress=show,
            cancel=cancel,
        )
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


@errors_as_lines()
def search(
    vectors: Annotated[Path, typer.Argument(metavar="INDEX", help="The folder or file of vectors, or its index.")],
    queries: Annotated[list[str], typer.Argument(metavar="QUERY...", help="Texts; - reads one a line from stdin.")],
    k: Annotated[int, typer.Option("-k", "--count", help="How many rows to find for each.", min=1)] = 10,
    model: Annotated[
        str | None, typer.Option(help="That made the vectors. [default: as it was written down beside them]")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Read all vectors rather than the index.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an object a line for each query, with all columns of the rows.")
    ] = False,
) -> None:
    """Find the rows whose texts mean what a query means; rows of a file are counted from 0."""
    from m2v_core.bulk.writers import row_as_json
    from m2v_core.search.searching import VectorSearch, search_texts

    texts = [text for query in queries for text in (sys.stdin.read().splitlines() if query == "-" else [query])]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise InputError("There is no query. Give a text in quotes, or - and a text on each line of stdin.")
    opened = VectorSearch(vectors, exact)
    encoder = opened.load_model(model)
    for text, hits in zip(texts, search_texts(opened, encoder, texts, k), strict=True):
        if as_json:
            found = [{"rank": rank, **asdict(hit)} for rank, hit in enumerate(hits, 1)]
            results.print(Text(row_as_json({"query": text, "hits": found})))
        else:
            _show(text if len(texts) > 1 else None, hits)


def _show(query: str | None, hits: list[Hit]) -> None:
    if query is not None:
        results.print(Text(query, "bold"))
    if not hits:
        results.print(Text("Nothing: the model knows no part of the query, or no vector is there.", "dim"))
    for rank, hit in enumerate(hits, 1):
        text = " ".join((hit.text or "").split())
        shown = f"{text[:_SHOWN_CHARACTERS]}…" if len(text) > _SHOWN_CHARACTERS else text
        place = f"{hit.file}, row {hit.row:,}"
        line = Text(f"{rank:>3}  {hit.similarity:6.3f}  ")
        results.print(line.append(f"{shown}  " if shown else "").append(place, "dim"))
