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
};

typedef enum { WORDPIECE, UNIGRAM, BPE } SubwordModel;

/* Pieces by their bytes. Node 0 is the root. */
typedef struct {
    uint64_t *edges; /* node (27 bits) | byte (8) | child (27) | whether a piece ends there (1); 0 for no edge */
    size_t n_slots, n_edges;
    int32_t *ids; /* of the piece that ends at each node, or -1 */
    size_t n_nodes, nodes_room;
} Trie;

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
    Trie pieces;
    int32_t unknown;

    size_t max_word_bytes; /* WordPiece: longer words are unknown */
    uint32_t inner_root;   /* WordPiece: node behind the prefix of pieces within words; 0 where no piece has it */

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
bool add_piece(Trie *trie, const uint8_t *bytes, size_t length, int32_t id);
bool init_merges(Merges *merges, size_t n_merges);
void add_merge(Merges *merges, int32_t left, int32_t right, int32_t rank, int32_t id);

/* The node at the end of these bytes, or 0. */
uint32_t trie_walk(const Trie *trie, uint32_t node, const uint8_t *bytes, size_t length);

/* Write a chunk's token ids, at most MAX_SUBWORD_IDS, and return their number, or -1 for the tokenizer to judge. */
int subword_ids(const Subwords *subwords, const uint8_t *chunk, size_t length, int32_t *ids);

#endif
