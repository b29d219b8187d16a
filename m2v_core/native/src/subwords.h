/* Tokenizing chunks of plain ASCII as WordPiece, Unigram and byte-level BPE models do.

   A text with words never seen before is limited by the tokenizer. Most of these words are plain ASCII, to which
   normalizers and pre-tokenizers do little: the caller finds out what, and passes it as two tables of bytes. Whatever
   else occurs in a chunk is left to the tokenizer.

   Source: https://github.com/huggingface/tokenizers, `models/wordpiece`, `models/unigram` and `models/bpe`. */
#ifndef M2V_SUBWORDS_H
#define M2V_SUBWORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a byte is to the tokenizer. A chunk with a FOREIGN one is left to it. */
enum { FOREIGN, LETTER, DIGIT, PUNCTUATION };

enum {
    MAX_SUBWORD_BYTES = 248,                 /* longer chunks are left to the tokenizer */
    MAX_SUBWORD_IDS = MAX_SUBWORD_BYTES + 4, /* one for each byte of the chunk and the prefix */
    MAX_INNER_PREFIX = 16,
};

typedef enum { WORDPIECE, UNIGRAM, BPE } SubwordModel;

/* Pieces by their bytes: a hash table with linear probing. Words are short and their prefixes are hashed along the way,
   so this waits for memory less often than a trie does, and takes a fraction of its time to build. */
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
    uint8_t classes[256];  /* FOREIGN and so on, of a byte as it stands in the text */
    uint8_t spelling[256]; /* the byte after normalizing */
    Pieces pieces;
    int32_t unknown;

    size_t max_word_bytes; /* WordPiece: longer words are unknown */
    uint8_t inner_prefix[MAX_INNER_PREFIX]; /* WordPiece: what pieces within words begin with */
    size_t inner_prefix_bytes;

    uint8_t prefix[4]; /* Unigram and BPE: what stands before every word */
    size_t prefix_bytes;
    bool has_space; /* Unigram and BPE: chunks begin with one space, in place of which the prefix is put */
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

/* Write a chunk's token ids, at most MAX_SUBWORD_IDS, and return their number, or -1 for the tokenizer to judge. */
int subword_ids(const Subwords *subwords, const uint8_t *chunk, size_t length, int32_t *ids);

#endif
