/* Splits a text into chunks: runs of bytes between ASCII whitespace, which most tokenizers process one by one. */
#ifndef M2V_SCAN_H
#define M2V_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a tokenizer's texts are split into chunks.
   carries_space: a chunk includes the whitespace before it, because the tokenizer processes it.
   cuts_at_lines: if chunks carry space, whether tabs and line ends start a chunk as spaces do. */
typedef struct {
    bool carries_space;
    bool cuts_at_lines;
} Splitting;

typedef struct {
    const uint8_t *bytes;
    size_t length;
} Chunk;

/* A position in a text; created by `scanner_at`, advanced by `next_chunks`. */
typedef struct {
    const uint8_t *text;
    size_t length;
    Splitting splitting;
    size_t chunk_start;  /* start of the incomplete chunk */
    size_t block;        /* start of the 64 bytes that `cuts` describes */
    uint64_t cuts;       /* bit i: a chunk may end before byte block + i */
    bool is_done;
} Scanner;

Scanner scanner_at(const uint8_t *text, size_t length, Splitting splitting);

/* Write up to `room` non-empty chunks and return their number; 0 at the end of the text. */
size_t next_chunks(Scanner *scanner, Chunk *chunks, size_t room);

#endif
