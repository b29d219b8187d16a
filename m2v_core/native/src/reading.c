#include "reading.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNKS_AT_ONCE = 32, FIRST_SLOTS = 128 };

static bool reserve_ids(Reading *reading, size_t n_needed) {
    if (n_needed <= reading->ids_room)
        return true;
    size_t room = reading->ids_room ? reading->ids_room : 1024;
    while (room < n_needed)
        room *= 2;
    int32_t *ids = realloc(reading->ids, room * sizeof(int32_t));
    if (!ids)
        return false;
    reading->ids = ids;
    reading->ids_room = room;
    return true;
}

/* The chunk's slot in `extra`, where it is put if it is not there yet: with its tokens if the subword model gives
   them, else to await the tokenizer. NULL when memory runs out. */
static Slot *slot_in_extra(Reading *reading, const ChunkKey *key) {
    if (!reading->extra) {
        ChunkTable *made = malloc(sizeof(ChunkTable));
        if (!made || !init_chunk_table(made, FIRST_SLOTS, reading->known->hash_mask)) {
            free(made);
            return NULL;
        }
        reading->extra = made;
    }
    ChunkTable *extra = reading->extra;
    Slot *slot = find_chunk(extra, key);
    if (slot->meta != 0)
        return slot;
    int32_t ids[MAX_SUBWORD_IDS];
    const int n_ids =
        reading->subwords ? subword_ids(reading->subwords, key->chunk.bytes, key->chunk.length, ids) : -1;
    if (!grow_chunk_table(extra, 1, n_ids > 0 ? (size_t)n_ids : 0, key->chunk.length))
        return NULL;
    slot = find_chunk(extra, key);
    if (n_ids < 0)
        insert_chunk(extra, slot, key, NULL, 0, AWAITS_TOKENIZER);
    else
        insert_chunk(extra, slot, key, ids, (size_t)n_ids, 0);
    return slot;
}

Outcome read_text(Reading *reading, Text text) {
    const ChunkTable *known = reading->known;
    const uint8_t *end = text.bytes + text.length;
    size_t n_read = 0, n_kept = reading->n_ids;
    unsigned marks_before = 0;
    bool is_missing = false;
    Chunk chunks[CHUNKS_AT_ONCE];
    ChunkKey keys[CHUNKS_AT_ONCE];
    Scanner scanner = scanner_at(text.bytes, text.length, reading->splitting);
    for (size_t n_chunks; (n_chunks = next_chunks(&scanner, chunks, CHUNKS_AT_ONCE)) > 0;) {
        for (size_t i = 0; i < n_chunks; i++) {
            if (chunks[i].length > MAX_CHUNK_BYTES)
                return UNSAFE;
            keys[i] = chunk_key(chunks[i], end);
            PREFETCH(&known->slots[keys[i].hash & known->hash_mask & (known->n_slots - 1)]);
        }
        for (size_t i = 0; i < n_chunks; i++) {
            const ChunkTable *table = known;
            Slot *slot = find_chunk(known, &keys[i]);
            uint64_t meta = slot_meta(slot);
            if (meta) {
                mark_used(slot, meta);
            } else {
                slot = slot_in_extra(reading, &keys[i]);
                if (!slot)
                    return NO_MEMORY;
                table = reading->extra;
                meta = slot->meta;
            }
            const unsigned marks = marks_of(meta);
            if (marks & UNSAFE_ALONE || (marks_before & MAY_BEGIN_PHRASE && marks & MAY_CONTINUE))
                return UNSAFE;
            marks_before = marks;
            if (marks & AWAITS_TOKENIZER) {
                is_missing = true;
                continue;
            }
            size_t n_tokens = n_tokens_of(meta);
            int32_t unpacked[2];
            const int32_t *ids = slot_token_ids(table, slot, n_tokens, unpacked);
            if (n_tokens > reading->max_tokens - n_read)
                n_tokens = reading->max_tokens - n_read;
            n_read += n_tokens;
            if (!reserve_ids(reading, n_kept + n_tokens + 1))
                return NO_MEMORY;
            for (size_t token = 0; token < n_tokens; token++) {
                reading->ids[n_kept] = ids[token];
                n_kept += ids[token] != reading->unknown;
            }
            if (n_read == reading->max_tokens) {
                if (marks & MAY_BEGIN_PHRASE)
                    return UNSAFE; /* the next chunk may have made a phrase of this one */
                goto read;
            }
        }
    }
read:
    if (is_missing)
        return MISSING;
    reading->n_ids = n_kept;
    return DONE;
}

Outcome embed_text(Reading *reading, const Table *table, Text text, bool normalize, double *wide, float *embedding) {
    const size_t dim = table->dim;
    reading->n_ids = 0;
    const Outcome outcome = read_text(reading, text);
    if (outcome != DONE)
        return outcome;
    const size_t n_tokens = reading->n_ids;
    if (n_tokens == 0) {
        memset(embedding, 0, dim * sizeof(float));
        return DONE;
    }
    if (n_tokens > ROWS_PER_SUM)
        memset(wide, 0, dim * sizeof(double));
    for (size_t start = 0; start < n_tokens; start += ROWS_PER_SUM) {
        const size_t n = n_tokens - start < ROWS_PER_SUM ? n_tokens - start : ROWS_PER_SUM;
        const int32_t *ids = reading->ids + start, *places = ids;
        int32_t mapped[ROWS_PER_SUM];
        float factors[ROWS_PER_SUM];
        if (table->mapping) {
            for (size_t i = 0; i < n; i++) {
                mapped[i] = table->mapping[ids[i]];
                if (mapped[i] < 0 || (size_t)mapped[i] >= table->n_rows)
                    return BAD_ROW;
            }
            places = mapped;
        }
        if (table->weights)
            for (size_t i = 0; i < n; i++)
                factors[i] = table->weights[ids[i]];
        table->kernels->add_rows[table->type](table->rows, dim, places, table->weights ? factors : NULL, n, embedding);
        if (n_tokens > ROWS_PER_SUM)
            for (size_t d = 0; d < dim; d++)
                wide[d] += embedding[d];
    }
    table->kernels->finish(embedding, n_tokens > ROWS_PER_SUM ? wide : NULL, dim, n_tokens, normalize);
    return DONE;
}
