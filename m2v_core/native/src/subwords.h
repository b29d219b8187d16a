/* Tokenizes chunks of plain ASCII like WordPiece, Unigram and byte-level BPE models.

   The tokenizer is the bottleneck for texts with new words. Most new words are plain ASCII, which normalizers and
   pre-tokenizers change little: the caller determines these changes and passes them as two tables of bytes. Chunks with
   any other byte go to the tokenizer.

   Source: https://github.com/huggingface/tokenizers, `models/wordpiece`, `models/unigram` and `models/bpe`. */
#ifndef M2V_SUBWORDS_H
#define M2V_SUBWORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How the tokenizer treats a byte. Chunks with a FOREIGN byte go to the tokenizer. */
enum { FOREIGN, LETTER, DIGIT, PUNCTUATION };

enum {
    MAX_SUBWORD_BYTES = 248,                 /* longer chunks go to the tokenizer */
    MAX_SUBWORD_IDS = MAX_SUBWORD_BYTES + 4, /* one for each byte of the chunk and the prefix */
    MAX_INNER_PREFIX = 16,
};

typedef enum { WORDPIECE, UNIGRAM, BPE } SubwordModel;

/* Pieces by their bytes: a hash table with linear probing. Words are short and their prefixes are hashed incrementally,
   so this has fewer cache misses than a trie and takes a fraction of the time to build. */
typedef struct {
    uint64_t *slots; /* upper half of the piece's hash | where its record begins + 1 (32 bits); 0 for an empty slot */
    size_t n_slots;  /* a power of two */
    uint8_t *records; /* id (4 bytes), number of bytes (1), bytes */
    size_t n_record_bytes;
    size_t longest; /* bytes */
} Pieces;

/* Pairs of neighbors that BPE merges. */
typedef struct {
    uint64_t *pairs; /* left id << 32 | right id, plus 1; 0 for an empty slot */
    uint64_t *merged; /* rank << 32 | id of the result */
    size_t n_slots;
} Merges;

typedef struct {
    SubwordModel model;
    uint8_t classes[256];  /* FOREIGN and so on, of a byte in the original text */
    uint8_t spelling[256]; /* the byte after normalizing */
    Pieces pieces;
    int32_t unknown;

    size_t max_word_bytes; /* WordPiece: longer words are unknown */
    uint8_t inner_prefix[MAX_INNER_PREFIX]; /* WordPiece: prefix of pieces inside words */
    size_t inner_prefix_bytes;

    uint8_t prefix[4]; /* Unigram and BPE: inserted before every word */
    size_t prefix_bytes;
    bool has_space; /* Unigram and BPE: chunks begin with one space, which the prefix replaces */
    const double *scores; /* Unigram: of each id */
    double unknown_score;
    int32_t byte_ids[256]; /* BPE: id of each single byte, or -1 */
    Merges merges;
    bool prefers_whole_words; /* BPE: a word that is a piece is not merged from its parts */
} Subwords;

void init_subwords(Subwords *subwords);
void free_subwords(Subwords *subwords);

/* False when memory runs out. */
bool init_pieces(Pieces *pieces, size_t n_pieces, size_t n_bytes);
bool init_merges(Merges *merges, size_t n_merges);
void add_merge(Merges *merges, int32_t left, int32_t right, int32_t rank, int32_t id);

/* Add one of the pieces for which `init_pieces` made room; no two are the same. */
void add_piece(Pieces *pieces, const uint8_t *bytes, size_t length, int32_t id);

/* Write a chunk's token ids, at most MAX_SUBWORD_IDS, and return their number; -1 if the tokenizer is needed. */
int subword_ids(const Subwords *subwords, const uint8_t *chunk, size_t length, int32_t *ids);

#endif
