#include "subwords.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NODES = 1 << 27, MAX_SPELLED = MAX_SUBWORD_IDS };

void init_subwords(Subwords *subwords) {
    *subwords = (Subwords){0};
    memset(subwords->byte_ids, -1, sizeof(subwords->byte_ids));
}

void free_subwords(Subwords *subwords) {
    free(subwords->pieces.edges);
    free(subwords->pieces.ids);
    free(subwords->merges.pairs);
    free(subwords->merges.merged);
    free((void *)subwords->scores);
    *subwords = (Subwords){0};
}

static inline size_t spread(uint64_t key) { return (size_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 20); }

static inline uint64_t *edge_slot(const Trie *trie, uint32_t node, uint8_t byte) {
    const uint64_t key = (uint64_t)node << 8 | byte;
    const size_t last = trie->n_slots - 1;
    size_t place = spread(key) & last;
    while (trie->edges[place] && trie->edges[place] >> 28 != key)
        place = (place + 1) & last;
    return &trie->edges[place];
}

/* A child and in the lowest bit whether a piece ends there, which spares looking for its id; 0 for none. */
static inline uint32_t step_from(const Trie *trie, uint32_t node, uint8_t byte) {
    return trie->n_slots ? (uint32_t)(*edge_slot(trie, node, byte) & (2 * MAX_NODES - 1)) : 0;
}

static bool grow_trie(Trie *trie) {
    if (trie->n_nodes + 1 >= trie->nodes_room) {
        const size_t room = trie->nodes_room ? 2 * trie->nodes_room : 256;
        int32_t *ids = realloc(trie->ids, room * sizeof(int32_t));
        if (!ids)
            return false;
        trie->ids = ids;
        trie->nodes_room = room;
    }
    if (trie->n_slots && trie->n_edges + 1 <= trie->n_slots / 4 * 3)
        return true;
    Trie larger = *trie;
    larger.n_slots = trie->n_slots ? 2 * trie->n_slots : 256;
    larger.edges = calloc(larger.n_slots, sizeof(uint64_t));
    if (!larger.edges)
        return false;
    for (size_t i = 0; i < trie->n_slots; i++) {
        const uint64_t edge = trie->edges[i];
        if (edge)
            *edge_slot(&larger, (uint32_t)(edge >> 36), (uint8_t)(edge >> 28)) = edge;
    }
    free(trie->edges);
    *trie = larger;
    return true;
}

bool add_piece(Trie *trie, const uint8_t *bytes, size_t length, int32_t id) {
    uint32_t node = 0;
    uint64_t *edge = NULL;
    if (trie->n_nodes == 0) {
        if (!grow_trie(trie))
            return false;
        trie->ids[0] = -1;
        trie->n_nodes = 1;
    }
    for (size_t i = 0; i < length; i++) {
        if (trie->n_nodes >= MAX_NODES || !grow_trie(trie))
            return false;
        edge = edge_slot(trie, node, bytes[i]);
        if (!*edge) {
            const uint64_t child = trie->n_nodes++;
            trie->ids[child] = -1;
            trie->n_edges++;
            *edge = (uint64_t)node << 36 | (uint64_t)bytes[i] << 28 | child << 1;
        }
        node = (uint32_t)(*edge & (2 * MAX_NODES - 1)) >> 1;
    }
    if (edge)
        *edge |= 1;
    trie->ids[node] = id;
    return true;
}

uint32_t trie_walk(const Trie *trie, uint32_t node, const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        node = step_from(trie, node, bytes[i]) >> 1;
        if (!node)
            return 0;
    }
    return node;
}

bool init_merges(Merges *merges, size_t n_merges) {
    size_t n_slots = 64;
    while (n_merges > n_slots / 4 * 3)
        n_slots *= 2;
    merges->n_slots = n_slots;
    merges->pairs = calloc(n_slots, sizeof(uint64_t));
    merges->merged = calloc(n_slots, sizeof(uint64_t));
    return merges->pairs && merges->merged;
}

static inline size_t merge_slot(const Merges *merges, int32_t left, int32_t right) {
    const uint64_t pair = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
    const size_t last = merges->n_slots - 1;
    size_t place = spread(pair) & last;
    while (merges->pairs[place] && merges->pairs[place] != pair)
        place = (place + 1) & last;
    return place;
}

void add_merge(Merges *merges, int32_t left, int32_t right, int32_t rank, int32_t id) {
    const size_t place = merge_slot(merges, left, right);
    merges->pairs[place] = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
    merges->merged[place] = (uint64_t)(uint32_t)rank << 32 | (uint32_t)id;
}

/* Greedily the longest piece first; words are runs of letters and digits, and single punctuation marks. */
static int wordpiece_ids(const Subwords *subwords, const uint8_t *bytes, const uint8_t *classes, size_t length,
                         int32_t *ids) {
    const Trie *trie = &subwords->pieces;
    int n_ids = 0;
    for (size_t begin = 0, stop; begin < length; begin = stop) {
        stop = begin + 1;
        if (classes[begin] != PUNCTUATION)
            while (stop < length && classes[stop] != PUNCTUATION)
                stop++;
        const int n_before = n_ids;
        bool is_known = stop - begin <= subwords->max_word_bytes;
        for (size_t place = begin; is_known && place < stop;) {
            uint32_t node = place == begin ? 0 : subwords->inner_root, piece = 0;
            size_t end = place;
            if (place == begin || node) {
                for (size_t i = place; i < stop; i++) {
                    const uint32_t step = step_from(trie, node, bytes[i]);
                    if (!step)
                        break;
                    node = step >> 1;
                    if (step & 1) {
                        piece = node;
                        end = i + 1;
                    }
                }
            }
            is_known = piece != 0;
            if (is_known)
                ids[n_ids++] = trie->ids[piece];
            place = end;
        }
        if (!is_known) {
            ids[n_before] = subwords->unknown;
            n_ids = n_before + 1;
        }
    }
    return n_ids;
}

/* The path of the highest score (Viterbi), candidates in the order in which the tokenizer compares them. */
static int unigram_ids(const Subwords *subwords, const uint8_t *bytes, size_t length, int32_t *ids) {
    const Trie *trie = &subwords->pieces;
    double score[MAX_SPELLED + 1];
    int32_t id_ending_at[MAX_SPELLED + 1];
    uint16_t start_of[MAX_SPELLED + 1];
    for (size_t i = 0; i <= length; i++)
        start_of[i] = UINT16_MAX;
    score[0] = 0;
    for (size_t start = 0, n_bytes; start < length; start += n_bytes) {
        n_bytes = start == 0 && subwords->prefix_bytes ? subwords->prefix_bytes : 1; /* of the character here */
        bool has_single_character = false;
        uint32_t node = 0;
        for (size_t end = start + 1; end <= length; end++) {
            const uint32_t step = step_from(trie, node, bytes[end - 1]);
            if (!step)
                break;
            node = step >> 1;
            if (!(step & 1))
                continue;
            const int32_t id = trie->ids[node];
            const double candidate = subwords->scores[id] + score[start];
            if (start_of[end] == UINT16_MAX || candidate > score[end]) {
                score[end] = candidate;
                start_of[end] = (uint16_t)start;
                id_ending_at[end] = id;
            }
            has_single_character |= end - start == n_bytes;
        }
        if (!has_single_character) {
            const size_t end = start + n_bytes;
            const double candidate = subwords->unknown_score + score[start];
            if (start_of[end] == UINT16_MAX || candidate > score[end]) {
                score[end] = candidate;
                start_of[end] = (uint16_t)start;
                id_ending_at[end] = subwords->unknown;
            }
        }
    }
    int n_ids = 0;
    for (size_t end = length; end > 0; end = start_of[end], n_ids++)
        if (id_ending_at[end] == subwords->unknown)
            return -1; /* several in a row may be fused, or fall back to bytes */
    int place = n_ids;
    for (size_t end = length; end > 0; end = start_of[end])
        ids[--place] = id_ending_at[end];
    return n_ids;
}

/* Merge the pair of the lowest rank, the leftmost of several, until none is left. */
static int merged_ids(const Subwords *subwords, const uint8_t *bytes, size_t length, int32_t *ids) {
    if (subwords->prefers_whole_words) {
        const uint32_t node = trie_walk(&subwords->pieces, 0, bytes, length);
        if (node && subwords->pieces.ids[node] >= 0) {
            ids[0] = subwords->pieces.ids[node];
            return 1;
        }
    }
    uint64_t merge_with_next[MAX_SPELLED]; /* rank << 32 | result of merging id i and the next; UINT64_MAX for none */
    const Merges *merges = &subwords->merges;
    for (size_t i = 0; i < length; i++) {
        ids[i] = subwords->byte_ids[bytes[i]];
        if (ids[i] < 0)
            return -1;
    }
    for (size_t i = 0; i + 1 < length; i++) {
        const size_t place = merge_slot(merges, ids[i], ids[i + 1]);
        merge_with_next[i] = merges->pairs[place] ? merges->merged[place] : UINT64_MAX;
    }
    while (length > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < length; i++)
            if (merge_with_next[i] >> 32 < merge_with_next[best] >> 32)
                best = i;
        if (merge_with_next[best] == UINT64_MAX)
            break;
        ids[best] = (int32_t)(merge_with_next[best] & UINT32_MAX);
        length--;
        memmove(ids + best + 1, ids + best + 2, (length - best - 1) * sizeof(int32_t));
        memmove(merge_with_next + best, merge_with_next + best + 1, (length - best - 1) * sizeof(uint64_t));
        for (size_t i = best ? best - 1 : 0; i <= best && i + 1 < length; i++) {
            const size_t place = merge_slot(merges, ids[i], ids[i + 1]);
            merge_with_next[i] = merges->pairs[place] ? merges->merged[place] : UINT64_MAX;
        }
    }
    return (int)length;
}

/* A word of letters and the punctuation behind it: what every pre-tokenizer of this kind takes apart alike. */
static int bpe_ids(const Subwords *subwords, const uint8_t *bytes, const uint8_t *classes, size_t length,
                   size_t prefix_bytes, int32_t *ids) {
    size_t stop = prefix_bytes;
    while (stop < length && classes[stop] == LETTER)
        stop++;
    if (stop == prefix_bytes)
        return -1;
    for (size_t i = stop; i < length; i++)
        if (classes[i] != PUNCTUATION)
            return -1;
    const int n_of_word = merged_ids(subwords, bytes, stop, ids);
    if (n_of_word < 0 || stop == length)
        return n_of_word;
    const int n_of_rest = merged_ids(subwords, bytes + stop, length - stop, ids + n_of_word);
    return n_of_rest < 0 ? -1 : n_of_word + n_of_rest;
}

int subword_ids(const Subwords *subwords, const uint8_t *chunk, size_t length, int32_t *ids) {
    uint8_t bytes[MAX_SPELLED], classes[MAX_SPELLED];
    size_t n_bytes = 0;
    if (length > MAX_SUBWORD_BYTES)
        return -1;
    if (subwords->model != WORDPIECE) {
        if (subwords->has_space) {
            if (length < 2 || chunk[0] != ' ')
                return -1;
            chunk++;
            length--;
        }
        n_bytes = subwords->prefix_bytes;
        memcpy(bytes, subwords->prefix, n_bytes);
        memset(classes, PUNCTUATION, n_bytes);
    }
    const size_t prefix_bytes = n_bytes;
    for (size_t i = 0; i < length; i++) {
        const uint8_t class = subwords->classes[chunk[i]];
        if (class == FOREIGN)
            return -1;
        classes[n_bytes] = class;
        bytes[n_bytes++] = subwords->spelling[chunk[i]];
    }
    switch (subwords->model) {
    case WORDPIECE:
        return wordpiece_ids(subwords, bytes, classes, n_bytes, ids);
    case UNIGRAM:
        return unigram_ids(subwords, bytes, n_bytes, ids);
    default:
        return bpe_ids(subwords, bytes, classes, n_bytes, prefix_bytes, ids);
    }
}
