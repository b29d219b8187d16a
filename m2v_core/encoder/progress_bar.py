"""The progress bar of encoding, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(n_texts: int, is_shown: bool) -> Iterator[Callable[[int], None] | None]:
    """Yield a function to call with the number of texts finished, or None if no bar is shown."""
    if not is_shown:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=n_texts, unit="text") as bar:
        yield bar.update
