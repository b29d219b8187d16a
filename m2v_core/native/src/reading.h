/* Texts to token ids, and to the means of their rows, by way of the chunks already known. */
#ifndef M2V_READING_H
#define M2V_READING_H

#include "chunks.h"
#include "rows.h"
#include "subwords.h"

typedef struct {
    const uint8_t *bytes; /* UTF-8 */
    size_t length;
} Text;

typedef enum {
    DONE,
    MISSING,   /* has chunks whose tokens only the tokenizer knows; they are in `extra` now */
    UNSAFE,    /* its chunks may depend on each other: the tokenizer has to read it whole */
    NO_MEMORY,
    BAD_ROW,   /* the mapping points outside the table */
} Outcome;

/* How to read; `known` and `subwords` may be shared by threads, the rest belongs to one. */
typedef struct {
    Splitting splitting;
    const ChunkTable *known;
    const Subwords *subwords; /* or NULL */
    ChunkTable *extra;        /* chunks that `known` lacks; made when one turns up, and then the caller's to free */
    size_t max_tokens;        /* read of each text, the unknown one among them */
    int32_t unknown;          /* token to leave out, or -1 */
    int32_t *ids;             /* what the last texts gave; the caller's to free */
    size_t n_ids, ids_room;
} Reading;

/* A model's table in the forms it is stored in. */
typedef struct {
    const void *rows; /* (n_rows, dim) */
    RowType type;
    size_t n_rows, dim;
    const int32_t *mapping; /* row of each token, or NULL where token i has row i */
    const float *weights;   /* factor of each token's row, or NULL */
    const RowKernels *kernels;
} Table;

/* Append the ids of each text's tokens to `reading->ids`, but for the unknown one: none unless the text is DONE.

   `ends` gets where the ids of each text end. Returns the worst outcome; NO_MEMORY and BAD_ROW end the work. */
Outcome read_texts(Reading *reading, const Text *texts, size_t n_texts, uint8_t *outcomes, size_t *ends);

/* Write the mean of the rows of each text's tokens, (n_texts, dim): zeros where it has none, nothing unless DONE.
   `wide` has room for `dim` numbers. */
Outcome embed_texts(Reading *reading, const Table *table, const Text *texts, size_t n_texts, bool normalize,
                    double *wide, float *embeddings, uint8_t *outcomes);

#endif
