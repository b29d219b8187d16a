"""How the tables of chunks lie in memory, and the numbers by which the compiled loops and their callers understand.

A slot of a table is four unsigned numbers of 64 bits, each with its first byte lowest:

    0  bytes 1 to 8 of the chunk, zeros beyond its end
    1  bytes 9 to 16 of the chunk, or the place of a longer chunk among the long ones
    2  length in bytes (32 bits) | tokens (24 bits) | marks (8 bits); zero for an empty slot
    3  up to two token ids (32 bits each), or the place of the ids among the table's

A table is known by the address of its header: `HEADER_WORDS` numbers of 64 bits.
"""

from __future__ import annotations

import numpy as np

# The header's numbers.
SLOTS = 0  # address
N_SLOTS = 1  # a power of two
HASH_MASK = 2  # less than all ones makes chunks collide
TOKEN_IDS = 3  # address
ROOM_FOR_IDS = 4
LONG_CHUNKS = 5  # address; chunks of over 16 bytes, eight bytes of padding after each
ROOM_FOR_LONG = 6  # bytes
N_CHUNKS = 7
N_IDS = 8
N_LONG = 9  # bytes
HEADER_WORDS = 10

USED = np.uint64(1 << 56)  # looked up since the table was last cleared of idle chunks
ALONE_UNSAFE = np.uint64(2 << 56)  # its tokens may depend on its neighbours
MAY_BEGIN_PHRASE = np.uint64(4 << 56)
MAY_GO_ON = np.uint64(8 << 56)

DONE, MISSING, UNSAFE = 0, 1, 2  # what became of a text
LETTER, PUNCTUATION, FOREIGN = 0, 1, 2  # what a byte is to a WordPiece vocabulary
FLOAT32, FLOAT16, INT8 = 0, 1, 2  # what the rows of a model are made of

PADDING = 8  # bytes behind a text: the loops read eight at a time
LONGEST_SPELLED = 248  # bytes; a longer chunk is left to the tokenizer
EVERY_BIT = np.uint64(0xFFFFFFFFFFFFFFFF)


def fits(n_chunks: int, n_slots: int) -> bool:
    """Whether a table of that many slots holds that many chunks; one in four stays empty, so that searches end soon."""
    return 4 * n_chunks <= 3 * n_slots
