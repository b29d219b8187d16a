/* A hash table from chunks of text to token ids.

   Chunks are looked up by hash and compared byte by byte. Nothing is ever removed. One thread can insert while others
   look chunks up, as long as the table has room: a slot becomes visible once it is complete, and memory that a reader
   may be using is never moved. `grow_chunk_table` moves memory, so no other thread may use the table. */
#ifndef M2V_CHUNKS_H
#define M2V_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "scan.h"
#include "text.h"

/* Marks of a chunk. */
enum {
    USED = 1,              /* looked up since the table was created */
    UNSAFE_ALONE = 2,      /* its tokens may depend on its neighbors */
    MAY_BEGIN_PHRASE = 4,  /* it and the next chunk may be one entry of several words, */
    MAY_CONTINUE = 8,      /* if the next chunk has this mark */
    AWAITS_TOKENIZER = 16, /* it has no tokens yet */
};

enum { MAX_TOKENS_OF_CHUNK = (1 << 24) - 1, MAX_CHUNK_BYTES = INT32_MAX };

typedef struct {
    uint64_t first;  /* bytes 1 to 8 of the chunk, zeros beyond its end */
    uint64_t second; /* bytes 9 to 16, or the offset of a longer chunk in `long_chunks` */
    uint64_t meta;   /* length in bytes (32 bits) | number of tokens (24) | marks (8); 0 for an empty slot */
    uint64_t tokens; /* one or two token ids (32 bits each), or the offset of more in `token_ids` */
} Slot;

typedef struct {
    Slot *slots;
    size_t n_slots; /* a power of two */
    size_t n_chunks;
    int32_t *token_ids;
    size_t n_token_ids, token_ids_room;
    uint8_t *long_chunks; /* chunks of more than 16 bytes */
    size_t n_long_bytes, long_bytes_room;
    uint64_t hash_mask; /* all ones; tests use fewer bits to make chunks collide */
} ChunkTable;

/* A chunk with the values that `find_chunk` compares. */
typedef struct {
    Chunk chunk;
    uint64_t first, second, hash;
} ChunkKey;

/* Limits of a table's size; see `merge_chunks`. */
typedef struct {
    size_t max_slots, max_token_ids, max_long_bytes, max_chunk_bytes;
} ChunkLimits;

/* Hashes differ between processes, so that no text can be crafted to collide in all of them. */
extern uint64_t chunk_hash_seed;

bool init_chunk_table(ChunkTable *table, size_t n_slots, uint64_t hash_mask);
void free_chunk_table(ChunkTable *table);

/* Reserve room for that many more, moving the contents if needed. False when memory runs out. */
bool grow_chunk_table(ChunkTable *table, size_t n_chunks, size_t n_token_ids, size_t n_long_bytes);

/* Put a chunk with its tokens into the empty slot that `find_chunk` returned. The table must have room. */
void insert_chunk(ChunkTable *table, Slot *slot, const ChunkKey *key, const int32_t *ids, size_t n_ids, unsigned marks);

/* Set the tokens and marks of a chunk marked AWAITS_TOKENIZER. False when memory runs out. */
bool set_tokens(ChunkTable *table, Slot *slot, const int32_t *ids, size_t n_ids, unsigned marks);

/* Add the finished chunks of `other` to `table` if they fit into `limits`.

   Returns `table` if it has room, otherwise a new table with the chunks of both: larger, or, when the limits are
   reached, without the chunks that were not looked up. Chunks of `other` that still don't fit are left out. NULL when
   memory runs out. `made` is set to whether the table is new. */
ChunkTable *merge_chunks(ChunkTable *table, const ChunkTable *other, ChunkLimits limits, bool *made);

static inline uint64_t slot_meta(const Slot *slot) {
#if defined(_MSC_VER) && !defined(__clang__)
    return *(const volatile uint64_t *)&slot->meta; /* an acquire load when MSVC compiles for x86-64 */
#else
    return __atomic_load_n(&slot->meta, __ATOMIC_ACQUIRE);
#endif
}

static inline size_t length_of(uint64_t meta) { return (size_t)(meta & UINT32_MAX); }
static inline size_t n_tokens_of(uint64_t meta) { return (size_t)(meta >> 32 & MAX_TOKENS_OF_CHUNK); }
static inline unsigned marks_of(uint64_t meta) { return (unsigned)(meta >> 56); }

/* Readers set this in shared tables without a lock; all of them write the same value. */
static inline void mark_used(Slot *slot, uint64_t meta) {
    const uint64_t marked = meta | (uint64_t)USED << 56;
    if (marked == meta)
        return;
#if defined(_MSC_VER) && !defined(__clang__)
    *(volatile uint64_t *)&slot->meta = marked;
#else
    __atomic_store_n(&slot->meta, marked, __ATOMIC_RELAXED);
#endif
}

static inline const uint8_t *slot_bytes(const ChunkTable *table, const Slot *slot, size_t length) {
    return length <= 16 ? (const uint8_t *)slot : table->long_chunks + slot->second;
}

/* The token ids of a chunk; up to two are unpacked into `unpacked`. */
static inline const int32_t *slot_token_ids(const ChunkTable *table, const Slot *slot, size_t n_tokens,
                                            int32_t unpacked[2]) {
    if (n_tokens > 2)
        return table->token_ids + slot->tokens;
    memcpy(unpacked, &slot->tokens, sizeof(slot->tokens));
    return unpacked;
}

static inline uint64_t mixed(uint64_t state, uint64_t word) {
    state = (state ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return state ^ state >> 32;
}

/* `end`: end of the readable memory after the chunk. */
static inline ChunkKey chunk_key(Chunk chunk, const uint8_t *end) {
    const uint8_t *bytes = chunk.bytes;
    const size_t length = chunk.length;
    ChunkKey key = {chunk, load_up_to_eight(bytes, length, end), 0, 0};
    uint64_t state = mixed(chunk_hash_seed + length, key.first);
    if (length > 8 && length <= 16) {
        key.second = load_up_to_eight(bytes + 8, length - 8, end);
        state = mixed(state, key.second);
    } else if (length > 16) {
        for (size_t place = 8; place < length; place += 8)
            state = mixed(state, load_up_to_eight(bytes + place, length - place, end));
    }
    key.hash = state ^ state >> 29;
    return key;
}

/* The chunk's slot, or the empty slot where it belongs. */
static inline Slot *find_chunk(const ChunkTable *table, const ChunkKey *key) {
    const size_t last = table->n_slots - 1, length = key->chunk.length;
    for (size_t place = key->hash & table->hash_mask & last;; place = (place + 1) & last) {
        Slot *slot = &table->slots[place];
        const uint64_t meta = slot_meta(slot);
        if (meta == 0)
            return slot;
        if (slot->first != key->first || length_of(meta) != length)
            continue;
        if (length <= 16 ? slot->second == key->second
                         : memcmp(table->long_chunks + slot->second, key->chunk.bytes, length) == 0)
            return slot;
    }
}

#endif
