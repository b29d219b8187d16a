"""The bar on stderr that grows with the texts that are encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(n_texts: int, is_shown: bool) -> Iterator[Callable[[int], None] | None]:
    """What to call with each number of texts done, if anything."""
    if not is_shown:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=n_texts, unit="text") as bar:
        yield bar.update
