"""Texts to token ids and embeddings, by whichever path is fastest for them.

Three paths give the same ids, and the same embeddings to the last bit or so:

- plain: the tokenizer reads each text whole (`plain`);
- small: for a few short texts, and while the kernels are being built: chunks remembered in a dict;
- kernel: for everything larger, chunks remembered in a `ChunkTable`, and compiled loops on every core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from tokenizers import Tokenizer

from m2v_core.encoder import plain
from m2v_core.encoder.chunks import SharedTable
from m2v_core.encoder.native import kernels_ready
from m2v_core.encoder.splitting import ALONE_UNSAFE, Splitting, chunk_splitting
from m2v_core.encoder.texts import without_surrogates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2v_core.encoder.pieces import WordPieces
    from m2v_core.encoder.run import KernelRun, Rows

_T = TypeVar("_T")

# To read a model's vocabulary as the kernels do takes as long as this many characters without them.
CHARACTERS_BEFORE_KERNELS = 40_000
# To build the kernels takes some seconds, once for each processor: not for a few texts.
_CHARACTERS_BEFORE_BUILDING = 2_000_000
# Below this the kernels' preparations for one call cost more than they save.
_CHARACTERS_FOR_KERNELS = 300
_CALLS_BEFORE_SPLITTING = 4
_CHARACTERS_AT_ONCE = 2_000_000
_TEXTS_AT_ONCE = 8_192
_MAX_REMEMBERED = 65_536  # chunks in the dict of the small path
_LONGEST_REMEMBERED = 64


class Engine:
    """Encodes with one model's table and tokenizer; any number of threads may share it.

    Args:
        table: The model's rows.
        tokenizer: Neither truncates nor pads.
        characters_per_token: Times `max_length`, what is read of a text before it is cut into tokens.
    """

    def __init__(self, table: plain.Table, tokenizer: Tokenizer, characters_per_token: int) -> None:
        self._table = table
        self._tokenizer = tokenizer
        self._characters_per_token = characters_per_token
        self._splitting: Splitting | str | None = None
        self._remembered: dict[str, list[int]] = {}
        self._shared = SharedTable()
        self._prepared: tuple[Rows, WordPieces] | None = None
        self._n_characters_read = 0
        self._n_calls = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return Engine, (self._table, self._tokenizer, self._characters_per_token)

    @property
    def splitting(self) -> Splitting | str:
        """How texts fall into chunks, or why they are always read whole."""
        if self._splitting is None:
            self._splitting = chunk_splitting(self._tokenizer)
        return self._splitting

    def embeddings(
        self, texts: list[str], max_length: int | None, normalize: bool, advance: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """(n_texts, dim) float32 means of the rows of known tokens; zero rows where there are none.

        Args:
            texts: Any number.
            max_length: Tokens to read of each text, unknown ones among them; None for all.
            normalize: Whether rows get unit length.
            advance: Called with the number of texts done each time some are.
        """
        if len(texts) == 1 and self._is_light(len(texts[0])):
            (ids,) = self._of_block(self._ids_of_few, self._cut(texts, max_length), max_length)
            return self._table.mean(ids, normalize)[None]
        embeddings = np.empty((len(texts), self._table.dim), np.float32)
        for start, block in self._blocks(texts, max_length):
            out = embeddings[start : start + len(block)]
            self._of_block(self._embed, block, max_length, normalize, out)
            if advance is not None:
                advance(len(block))
        return embeddings

    def token_ids(self, texts: list[str], max_length: int | None) -> list[list[int]]:
        """The ids of each text's known tokens.

        Args:
            texts: Any number.
            max_length: Tokens to read of each text, unknown ones among them; None for all.
        """
        blocks = self._blocks(texts, max_length)
        return [ids for _, block in blocks for ids in self._of_block(self._tokenize, block, max_length)]

    def sequences(
        self, texts: list[str], max_length: int | None, advance: Callable[[int], None] | None = None
    ) -> list[NDArray[np.float32]]:
        """(n_tokens, dim) float32 rows of each text's known tokens, in their order.

        Args:
            texts: Any number.
            max_length: Tokens to read of each text, unknown ones among them; None for all.
            advance: Called with the number of texts done each time some are.
        """
        sequences: list[NDArray[np.float32]] = []
        for _, block in self._blocks(texts, max_length):
            ids = self._of_block(self._tokenize, block, max_length)
            sequences += [self._table.rows(np.array(ids_of_text, np.int64)) for ids_of_text in ids]
            if advance is not None:
                advance(len(block))
        return sequences

    def _embed(self, texts: list[str], max_length: int | None, normalize: bool, out: NDArray[np.float32]) -> None:
        if not self._pays_for_kernels(texts):
            out[:] = self._table.means(self._ids_of_few(texts, max_length), normalize)
            return
        read_whole = self._run(texts, max_length).pool(out, normalize)
        ids = self._ids_of_whole([texts[i] for i in read_whole], max_length)
        out[read_whole] = self._table.means(ids, normalize)

    def _tokenize(self, texts: list[str], max_length: int | None) -> list[list[int]]:
        if not self._pays_for_kernels(texts):
            return self._ids_of_few(texts, max_length)
        found, read_whole = self._run(texts, max_length).tokenize()
        ids = self._ids_of_whole([texts[i] for i in read_whole], max_length)
        for i, ids_of_text in zip(read_whole, ids, strict=True):
            found[i] = ids_of_text
        return found

    @staticmethod
    def _of_block(work: Callable[..., _T], texts: list[str], *arguments: Any) -> _T:
        """What the work gives for the texts, and for what UTF-8 can hold of them where they have lone surrogates."""
        try:
            return work(texts, *arguments)
        except (TypeError, UnicodeEncodeError):  # looking for surrogates beforehand would cost every call
            return work(without_surrogates(texts), *arguments)

    def _blocks(self, texts: list[str], max_length: int | None) -> Iterator[tuple[int, list[str]]]:
        """The texts in blocks of bounded size, each with the place of its first, cut to what can count."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        if max_length is not None:
            limit = max_length * self._characters_per_token
            if lengths.max(initial=0) > limit:
                texts = self._cut(texts, max_length)
                np.minimum(lengths, limit, out=lengths)
        ends = np.cumsum(lengths, out=lengths)
        start = 0
        while start < len(texts):
            so_far = ends[start - 1] if start else 0
            stop = int(np.searchsorted(ends, so_far + _CHARACTERS_AT_ONCE, side="right"))
            stop = min(max(stop, start + 1), start + _TEXTS_AT_ONCE)
            yield start, texts[start:stop]
            start = stop

    def _cut(self, texts: list[str], max_length: int | None) -> list[str]:
        """The texts, less what is surely beyond `max_length`: as in Model2Vec, characters go before tokens do."""
        if max_length is None:
            return texts
        limit = max_length * self._characters_per_token
        return [text[:limit] if len(text) > limit else text for text in texts]

    def _is_light(self, n_characters: int) -> bool:
        """Whether a text alone is read before anything is weighed or prepared."""
        if n_characters >= _CHARACTERS_FOR_KERNELS and (
            self._prepared is not None or self._n_characters_read + n_characters >= CHARACTERS_BEFORE_KERNELS
        ):
            return False
        self._n_characters_read += n_characters
        return True

    def _pays_for_kernels(self, texts: list[str]) -> bool:
        n_characters = sum(map(len, texts))
        self._n_characters_read += n_characters
        return (
            n_characters >= _CHARACTERS_FOR_KERNELS
            and (self._prepared is not None or self._n_characters_read >= CHARACTERS_BEFORE_KERNELS)
            and isinstance(self.splitting, Splitting)
            and kernels_ready(may_build=self._n_characters_read >= _CHARACTERS_BEFORE_BUILDING)
        )

    def _run(self, texts: list[str], max_length: int | None) -> KernelRun:
        from m2v_core.encoder.run import KernelRun

        assert isinstance(self.splitting, Splitting)
        if self._prepared is None:
            from m2v_core.encoder.pieces import word_pieces
            from m2v_core.encoder.run import Rows

            self._prepared = Rows(self._table), word_pieces(self._tokenizer)
        rows, pieces = self._prepared
        unknown = self._table.unk_token_id
        return KernelRun(texts, max_length, rows, unknown, self._tokenizer, self.splitting, self._shared, pieces)

    def _ids_of_whole(self, texts: list[str], max_length: int | None) -> list[list[int]]:
        return [self._known(ids) for ids in plain.token_ids(self._tokenizer, texts, max_length)] if texts else []

    def _known(self, ids: list[int]) -> list[int]:
        unknown = self._table.unk_token_id
        return [i for i in ids if i != unknown] if unknown in ids else ids

    def _ids_of_few(self, texts: list[str], max_length: int | None) -> list[list[int]]:
        # To find out how a tokenizer splits takes as long as some hundred texts: not for the first ones.
        self._n_calls += 1
        if self._splitting is None and self._n_calls <= _CALLS_BEFORE_SPLITTING and len(texts) == 1:
            return self._ids_of_whole(texts, max_length)
        splitting = self.splitting
        if isinstance(splitting, str) or splitting.has_phrases:
            return self._ids_of_whole(texts, max_length)
        split = [splitting.split(text) for text in texts]
        remembered = self._remembered
        new = {chunk for chunks in split for chunk in chunks if chunk not in remembered}
        found = self._learn(splitting, new) if new else {}
        sequences = []
        for text, chunks in zip(texts, split, strict=True):
            ids: list[int] = []
            for chunk in chunks:
                of_chunk = remembered.get(chunk)
                if of_chunk is None:
                    of_chunk = found.get(chunk)
                    if of_chunk is None:  # unsafe alone, or another thread has just made room
                        (ids,) = plain.token_ids(self._tokenizer, [text], max_length)
                        break
                ids += of_chunk
            sequences.append(self._known(ids[:max_length]))
        return sequences

    def _learn(self, splitting: Splitting, chunks: set[str]) -> dict[str, list[int]]:
        """The ids of the chunks that are safe alone; from now on they are remembered."""
        if len(self._remembered) + len(chunks) > _MAX_REMEMBERED:
            self._remembered.clear()
        in_order = list(chunks)
        found = {
            chunk: ids
            for chunk, ids in zip(in_order, plain.token_ids(self._tokenizer, in_order, None), strict=True)
            if not (chunk and splitting.marks(chunk) & ALONE_UNSAFE)
        }
        self._remembered.update((chunk, ids) for chunk, ids in found.items() if len(chunk) <= _LONGEST_REMEMBERED)
        return found
