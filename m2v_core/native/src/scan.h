/* Finding the chunks of a text: runs of bytes between ASCII white space, which most tokenizers read one by one. */
#ifndef M2V_SCAN_H
#define M2V_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a tokenizer's texts fall into chunks.
   carries_space: a chunk includes the white space before it, because the tokenizer sees it.
   cuts_at_lines: where chunks carry space, whether tabs and line ends begin a chunk as spaces do. */
typedef struct {
    bool carries_space;
    bool cuts_at_lines;
} Splitting;

typedef struct {
    const uint8_t *bytes;
    size_t length;
} Chunk;

/* A position in a text; `scanner_at` makes one, `next_chunks` advances it. */
typedef struct {
    const uint8_t *text;
    size_t length;
    Splitting splitting;
    size_t chunk_start;  /* of the chunk that is not complete yet */
    size_t block;        /* start of the 64 bytes that `cuts` describes */
    uint64_t cuts;       /* bit i: a chunk may end before byte block + i */
    bool is_done;
} Scanner;

Scanner scanner_at(const uint8_t *text, size_t length, Splitting splitting);

/* Write up to `room` chunks, none of them empty, and return their number; 0 at the end of the text. */
size_t next_chunks(Scanner *scanner, Chunk *chunks, size_t room);

#endif
