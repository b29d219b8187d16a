#include "subwords.h"

#include "chunks.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SPELLED = MAX_SUBWORD_IDS, RECORD_HEAD = 5 };

void init_subwords(Subwords *subwords) {
    *subwords = (Subwords){0};
    memset(subwords->byte_ids, -1, sizeof(subwords->byte_ids));
}

void free_subwords(Subwords *subwords) {
    free(subwords->pieces.slots);
    free(subwords->pieces.records);
    free(subwords->merges.pairs);
    free(subwords->merges.merged);
    free((void *)subwords->scores);
    *subwords = (Subwords){0};
}

static inline size_t spread(uint64_t key) { return (size_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 20); }

static inline uint64_t hash_with(uint64_t hash, uint8_t byte) { return mixed(hash, byte); }

static uint64_t hash_of(const uint8_t *bytes, size_t length) {
    uint64_t hash = chunk_hash_seed;
    for (size_t i = 0; i < length; i++)
        hash = hash_with(hash, bytes[i]);
    return hash;
}

bool init_pieces(Pieces *pieces, size_t n_pieces, size_t n_bytes) {
    const size_t n_record_bytes = n_bytes + n_pieces * RECORD_HEAD;
    if (n_record_bytes >= UINT32_MAX)
        return false;
    pieces->n_slots = 64;
    while (n_pieces > pieces->n_slots / 2)
        pieces->n_slots *= 2;
    pieces->slots = calloc(pieces->n_slots, sizeof(uint64_t));
    pieces->records = malloc(n_record_bytes + 1);
    return pieces->slots && pieces->records;
}

void add_piece(Pieces *pieces, const uint8_t *bytes, size_t length, int32_t id) {
    if (length == 0 || length > MAX_SPELLED)
        return; /* occurs in none of the chunks processed here */
    const uint64_t hash = hash_of(bytes, length);
    const size_t last = pieces->n_slots - 1;
    size_t place = hash & last;
    while (pieces->slots[place])
        place = (place + 1) & last;
    pieces->slots[place] = (hash & ~(uint64_t)UINT32_MAX) | (pieces->n_record_bytes + 1);
    uint8_t *record = pieces->records + pieces->n_record_bytes;
    memcpy(record, &id, sizeof(id));
    record[RECORD_HEAD - 1] = (uint8_t)length;
    memcpy(record + RECORD_HEAD, bytes, length);
    pieces->n_record_bytes += RECORD_HEAD + length;
    if (length > pieces->longest)
        pieces->longest = length;
}

/* The id of the piece made up of `head` and `tail`, or -1; `hash` is that of both together. */
static inline int32_t find_piece(const Pieces *pieces, uint64_t hash, const uint8_t *head, size_t head_bytes,
                                 const uint8_t *tail, size_t tail_bytes) {
    const size_t last = pieces->n_slots - 1;
    for (size_t place = hash & last; pieces->slots[place]; place = (place + 1) & last) {
        if ((pieces->slots[place] ^ hash) >> 32)
            continue;
        const uint8_t *record = pieces->records + (pieces->slots[place] & UINT32_MAX) - 1;
        const uint8_t *bytes = record + RECORD_HEAD;
        if (record[RECORD_HEAD - 1] == head_bytes + tail_bytes && memcmp(bytes, head, head_bytes) == 0 &&
            memcmp(bytes + head_bytes, tail, tail_bytes) == 0) {
            int32_t id;
            memcpy(&id, record, sizeof(id));
            return id;
        }
    }
    return -1;
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

/* Greedy longest match first; words are runs of letters and digits, and single punctuation marks. */
static int wordpiece_ids(const Subwords *subwords, const uint8_t *bytes, const uint8_t *classes, size_t length,
                         int32_t *ids) {
    const Pieces *pieces = &subwords->pieces;
    const uint64_t inner_hash = hash_of(subwords->inner_prefix, subwords->inner_prefix_bytes);
    uint64_t hashes[MAX_SPELLED]; /* of the bytes up to and including each */
    int n_ids = 0;
    for (size_t begin = 0, stop; begin < length; begin = stop) {
        stop = begin + 1;
        if (classes[begin] != PUNCTUATION)
            while (stop < length && classes[stop] != PUNCTUATION)
                stop++;
        const int n_before = n_ids;
        bool is_known = stop - begin <= subwords->max_word_bytes;
        for (size_t place = begin, end; is_known && place < stop; place = end) {
            const size_t head_bytes = place == begin ? 0 : subwords->inner_prefix_bytes;
            uint64_t hash = place == begin ? chunk_hash_seed : inner_hash;
            for (end = place; end < stop && end - place + head_bytes < pieces->longest; end++)
                hashes[end] = hash = hash_with(hash, bytes[end]);
            int32_t id = -1;
            for (; end > place; end--) {
                id = find_piece(pieces, hashes[end - 1], subwords->inner_prefix, head_bytes, bytes + place,
                                end - place);
                if (id >= 0)
                    break;
            }
            is_known = id >= 0;
            if (is_known)
                ids[n_ids++] = id;
        }
        if (!is_known) {
            ids[n_before] = subwords->unknown;
            n_ids = n_before + 1;
        }
    }
    return n_ids;
}

/* The path with the highest score (Viterbi), with candidates in the tokenizer's order of comparison. */
static int unigram_ids(const Subwords *subwords, const uint8_t *bytes, size_t length, int32_t *ids) {
    const Pieces *pieces = &subwords->pieces;
    double score[MAX_SPELLED + 1];
    int32_t id_ending_at[MAX_SPELLED + 1];
    uint16_t start_of[MAX_SPELLED + 1];
    for (size_t i = 0; i <= length; i++)
        start_of[i] = UINT16_MAX;
    score[0] = 0;
    for (size_t start = 0, n_bytes; start < length; start += n_bytes) {
        n_bytes = start == 0 && subwords->prefix_bytes ? subwords->prefix_bytes : 1; /* of the character here */
        bool has_single_character = false;
        uint64_t hash = chunk_hash_seed;
        const size_t stop = length - start < pieces->longest ? length : start + pieces->longest;
        for (size_t end = start + 1; end <= stop; end++) {
            hash = hash_with(hash, bytes[end - 1]);
            const int32_t id = find_piece(pieces, hash, bytes, 0, bytes + start, end - start);
            if (id < 0)
                continue;
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
            return -1; /* the tokenizer may fuse several in a row, or fall back to bytes */
    int place = n_ids;
    for (size_t end = length; end > 0; end = start_of[end])
        ids[--place] = id_ending_at[end];
    return n_ids;
}

/* Merge the pair of lowest rank, the leftmost of equals, until no pair is left. */
static int merged_ids(const Subwords *subwords, const uint8_t *bytes, size_t length, int32_t *ids) {
    if (subwords->prefers_whole_words) {
        ids[0] = find_piece(&subwords->pieces, hash_of(bytes, length), bytes, 0, bytes, length);
        if (ids[0] >= 0)
            return 1;
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

/* A word of letters followed by punctuation, which all pre-tokenizers of this kind split alike. */
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
