/* Converts texts to token ids, and to the means of their rows, with the chunks in the table. */
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
    MISSING,   /* has chunks that the tokenizer must process; they are now in `extra` */
    UNSAFE,    /* its chunks may depend on each other: the tokenizer must process the text whole */
    NO_MEMORY,
    BAD_ROW,   /* the mapping points outside the table */
} Outcome;

/* How to read; threads may share `known` and `subwords`, the rest belongs to one thread. */
typedef struct {
    Splitting splitting;
    const ChunkTable *known;
    const Subwords *subwords; /* or NULL */
    ChunkTable *extra;        /* chunks missing in `known`; NULL until there is one; the caller frees it */
    size_t max_tokens;        /* per text, unknown tokens included */
    int32_t unknown;          /* token to exclude, or -1 */
    int32_t *ids;             /* result for the last texts; the caller frees it */
    size_t n_ids, ids_room;
} Reading;

/* A model's table in the stored forms. */
typedef struct {
    const void *rows; /* (n_rows, dim) */
    RowType type;
    size_t n_rows, dim;
    const int32_t *mapping; /* row of each token, or NULL where token i has row i */
    const float *weights;   /* factor of each token's row, or NULL */
    const RowKernels *kernels;
} Table;

/* Append the ids of each text's known tokens to `reading->ids`; nothing for texts that are not DONE.

   `ends` receives the end of each text's ids. Returns the worst outcome; NO_MEMORY and BAD_ROW stop the work. */
Outcome read_texts(Reading *reading, const Text *texts, size_t n_texts, uint8_t *outcomes, size_t *ends);

/* Write the mean of the rows of each text's tokens, (n_texts, dim): zeros for texts without any, nothing unless DONE.
   `wide` must have room for `dim` numbers. */
Outcome embed_texts(Reading *reading, const Table *table, const Text *texts, size_t n_texts, bool normalize,
                    double *wide, float *embeddings, uint8_t *outcomes);

#endif
