#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include "chunks.h"

#include <stdlib.h>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#define MAPS_SLOTS 1
#else
#define MAPS_SLOTS 0
#endif

uint64_t chunk_hash_seed = UINT64_C(0x243F6A8885A308D3);

/* Smaller tables grow in larger steps: rehashing their contents takes longer than clearing memory. */
enum { SLOTS_OF_SMALL_TABLE = 8192, MANY_CHUNKS = 1 << 15 };

/* A quarter of the slots stay empty to keep searches short. */
static bool fits(size_t n_chunks, size_t n_slots) { return n_chunks <= n_slots / 4 * 3; }

/* Whether slots are allocated with mmap, which returns the memory to the system when a larger table replaces this one;
   malloc would hold on to it. */
static bool is_mapped(size_t n_slots) { return MAPS_SLOTS && n_slots * sizeof(Slot) >= 1 << 20; }

/* Empty slots, or NULL. */
static Slot *allocate_slots(size_t n_slots) {
#if MAPS_SLOTS
    if (is_mapped(n_slots)) {
        void *memory = mmap(NULL, n_slots * sizeof(Slot), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return memory == MAP_FAILED ? NULL : memory;
    }
#endif
    return calloc(n_slots, sizeof(Slot));
}

static void free_slots(Slot *slots, size_t n_slots) {
#if MAPS_SLOTS
    if (slots && is_mapped(n_slots)) {
        munmap(slots, n_slots * sizeof(Slot));
        return;
    }
#endif
    free(slots);
}

bool init_chunk_table(ChunkTable *table, size_t n_slots, uint64_t hash_mask) {
    *table = (ChunkTable){.n_slots = n_slots, .hash_mask = hash_mask};
    table->slots = allocate_slots(n_slots);
    return table->slots != NULL;
}

void free_chunk_table(ChunkTable *table) {
    free_slots(table->slots, table->n_slots);
    free(table->token_ids);
    free(table->long_chunks);
    *table = (ChunkTable){0};
}

static ChunkKey key_of_slot(const ChunkTable *table, const Slot *slot) {
    const size_t length = length_of(slot->meta);
    const uint8_t *bytes = slot_bytes(table, slot, length);
    return chunk_key((Chunk){bytes, length}, length <= 16 ? bytes + 16 : bytes + length);
}

static bool rehash(ChunkTable *table, size_t n_slots) {
    ChunkTable larger = *table;
    larger.n_slots = n_slots;
    larger.slots = allocate_slots(n_slots);
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < table->n_slots; i++) {
        const Slot *slot = &table->slots[i];
        if (slot->meta == 0)
            continue;
        const ChunkKey key = key_of_slot(table, slot);
        *find_chunk(&larger, &key) = *slot;
    }
    free_slots(table->slots, table->n_slots);
    *table = larger;
    return true;
}

static size_t doubled_until(size_t room, size_t n_needed) {
    if (room < 64)
        room = 64;
    while (room < n_needed)
        room *= 2;
    return room;
}

bool grow_chunk_table(ChunkTable *table, size_t n_chunks, size_t n_token_ids, size_t n_long_bytes) {
    if (table->n_token_ids + n_token_ids > table->token_ids_room) {
        const size_t room = doubled_until(table->token_ids_room, table->n_token_ids + n_token_ids);
        int32_t *moved = realloc(table->token_ids, room * sizeof(int32_t));
        if (!moved)
            return false;
        table->token_ids = moved;
        table->token_ids_room = room;
    }
    if (table->n_long_bytes + n_long_bytes > table->long_bytes_room) {
        const size_t room = doubled_until(table->long_bytes_room, table->n_long_bytes + n_long_bytes);
        uint8_t *moved = realloc(table->long_chunks, room);
        if (!moved)
            return false;
        table->long_chunks = moved;
        table->long_bytes_room = room;
    }
    size_t n_slots = table->n_slots;
    while (!fits(table->n_chunks + n_chunks, n_slots))
        n_slots *= n_slots < SLOTS_OF_SMALL_TABLE ? 8 : 2;
    return n_slots == table->n_slots || rehash(table, n_slots);
}

/* The slot's word for these tokens; more than two are appended to the table's list. */
static uint64_t stored_tokens(ChunkTable *table, const int32_t *ids, size_t n_ids) {
    uint64_t stored = 0;
    if (n_ids <= 2) {
        if (n_ids)
            memcpy(&stored, ids, n_ids * sizeof(int32_t));
        return stored;
    }
    stored = table->n_token_ids;
    memcpy(table->token_ids + stored, ids, n_ids * sizeof(int32_t));
    table->n_token_ids += n_ids;
    return stored;
}

/* Complete a slot, which makes it visible to other threads. */
static void publish(Slot *slot, size_t length, size_t n_tokens, unsigned marks) {
    const uint64_t meta = (uint64_t)length | (uint64_t)n_tokens << 32 | (uint64_t)marks << 56;
#if defined(_MSC_VER) && !defined(__clang__)
    *(volatile uint64_t *)&slot->meta = meta;
#else
    __atomic_store_n(&slot->meta, meta, __ATOMIC_RELEASE);
#endif
}

void insert_chunk(ChunkTable *table, Slot *slot, const ChunkKey *key, const int32_t *ids, size_t n_ids,
                  unsigned marks) {
    const size_t length = key->chunk.length;
    slot->first = key->first;
    slot->second = key->second;
    if (length > 16) {
        slot->second = table->n_long_bytes;
        memcpy(table->long_chunks + table->n_long_bytes, key->chunk.bytes, length);
        table->n_long_bytes += length;
    }
    slot->tokens = stored_tokens(table, ids, n_ids);
    table->n_chunks++;
    publish(slot, length, n_ids, marks);
}

bool set_tokens(ChunkTable *table, Slot *slot, const int32_t *ids, size_t n_ids, unsigned marks) {
    if (n_ids > 2 && !grow_chunk_table(table, 0, n_ids, 0))
        return false;
    slot->tokens = stored_tokens(table, ids, n_ids);
    publish(slot, length_of(slot->meta), n_ids, marks);
    return true;
}

/* Insert the chunks of `source` that are missing in `target`, which must have room for them. */
static void copy_chunks(const ChunkTable *source, ChunkTable *target, size_t max_chunk_bytes, bool only_used,
                        size_t max_chunks) {
    for (size_t i = 0; i < source->n_slots && target->n_chunks < max_chunks; i++) {
        const Slot *slot = &source->slots[i];
        const uint64_t meta = slot_meta(slot);
        const unsigned marks = marks_of(meta);
        if (meta == 0 || marks & AWAITS_TOKENIZER || length_of(meta) > max_chunk_bytes || (only_used && !(marks & USED)))
            continue;
        const ChunkKey key = key_of_slot(source, slot);
        Slot *found = find_chunk(target, &key);
        if (found->meta == 0) {
            const size_t n_tokens = n_tokens_of(meta);
            int32_t unpacked[2];
            const int32_t *ids = slot_token_ids(source, slot, n_tokens, unpacked);
            insert_chunk(target, found, &key, ids, n_tokens, marks & ~(unsigned)USED);
        }
    }
}

static bool is_within(const ChunkTable *table, const ChunkTable *other, ChunkLimits limits) {
    return fits(table->n_chunks + other->n_chunks, limits.max_slots) &&
           table->n_token_ids + other->n_token_ids <= limits.max_token_ids &&
           table->n_long_bytes + other->n_long_bytes <= limits.max_long_bytes;
}

/* A copy of `table` with room for the chunks of `other` and more. */
static ChunkTable *copied(const ChunkTable *table, const ChunkTable *other, ChunkLimits limits, bool only_used) {
    ChunkTable *copy = malloc(sizeof(ChunkTable));
    if (!copy || !init_chunk_table(copy, 64, table->hash_mask)) {
        free(copy);
        return NULL;
    }
    const size_t n_chunks = only_used ? limits.max_slots / 8 * 3 : SIZE_MAX;
    const size_t n_together = table->n_chunks + other->n_chunks;
    /* Small tables get extra room: repeated copying would cost more than the memory. */
    const size_t n_more = n_together < MANY_CHUNKS && fits(MANY_CHUNKS + n_together, limits.max_slots) ? MANY_CHUNKS : 0;
    if (!grow_chunk_table(copy, n_together + n_more,
                          MANY_CHUNKS + 2 * (table->n_token_ids + other->n_token_ids),
                          MANY_CHUNKS + 2 * (table->n_long_bytes + other->n_long_bytes))) {
        free_chunk_table(copy);
        free(copy);
        return NULL;
    }
    copy_chunks(table, copy, SIZE_MAX, only_used, n_chunks);
    return copy;
}

ChunkTable *merge_chunks(ChunkTable *table, const ChunkTable *other, ChunkLimits limits, bool *made) {
    ChunkTable *target = table;
    *made = false;
    if (!is_within(table, other, limits)) {
        target = copied(table, other, limits, true);
        *made = true;
    } else if (!fits(table->n_chunks + other->n_chunks, table->n_slots) ||
               table->n_token_ids + other->n_token_ids > table->token_ids_room ||
               table->n_long_bytes + other->n_long_bytes > table->long_bytes_room) {
        target = copied(table, other, limits, false);
        *made = true;
    }
    if (target && is_within(target, other, limits))
        copy_chunks(other, target, limits.max_chunk_bytes, false, SIZE_MAX);
    return target;
}
