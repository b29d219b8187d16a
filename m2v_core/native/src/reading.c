#include "reading.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNKS_AT_ONCE = 32, TEXTS_AT_ONCE = 16, FIRST_SLOTS = 128 };

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

/* The chunk's slot in `extra`; a new chunk is inserted with the tokens of the subword model or, if it returns none,
   the mark AWAITS_TOKENIZER. NULL when memory runs out. */
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

/* The first chunks of a text, whose slots are prefetched while the previous text is read. */
typedef struct {
    Text text;
    Scanner scanner;
    ChunkKey keys[CHUNKS_AT_ONCE];
    size_t n_keys;
} OpenText;

static void find_next_chunks(const Reading *reading, OpenText *open) {
    const ChunkTable *known = reading->known;
    const uint8_t *end = open->text.bytes + open->text.length;
    Chunk chunks[CHUNKS_AT_ONCE];
    open->n_keys = next_chunks(&open->scanner, chunks, CHUNKS_AT_ONCE);
    for (size_t i = 0; i < open->n_keys; i++) {
        open->keys[i] = chunk_key(chunks[i], end);
        PREFETCH(&known->slots[open->keys[i].hash & known->hash_mask & (known->n_slots - 1)]);
    }
}

static void open_text(const Reading *reading, OpenText *open, Text text) {
    open->text = text;
    open->scanner = scanner_at(text.bytes, text.length, reading->splitting);
    find_next_chunks(reading, open);
}

static Outcome read_text(Reading *reading, OpenText *open) {
    const ChunkTable *known = reading->known;
    size_t n_read = 0, n_kept = reading->n_ids;
    unsigned marks_before = 0;
    bool is_missing = false;
    for (; open->n_keys > 0; find_next_chunks(reading, open)) {
        for (size_t i = 0; i < open->n_keys; i++) {
            const ChunkKey *key = &open->keys[i];
            if (key->chunk.length > MAX_CHUNK_BYTES)
                return UNSAFE;
            const ChunkTable *table = known;
            Slot *slot = find_chunk(known, key);
            uint64_t meta = slot_meta(slot);
            if (meta) {
                mark_used(slot, meta);
            } else {
                slot = slot_in_extra(reading, key);
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
                    return UNSAFE; /* this chunk and the next may form a phrase */
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

Outcome read_texts(Reading *reading, const Text *texts, size_t n_texts, uint8_t *outcomes, size_t *ends) {
    Outcome worst = DONE;
    OpenText open[2]; /* this text and the next */
    if (n_texts > 0)
        open_text(reading, &open[0], texts[0]);
    for (size_t i = 0; i < n_texts && worst < NO_MEMORY; i++) {
        if (i + 1 < n_texts)
            open_text(reading, &open[(i + 1) % 2], texts[i + 1]);
        const Outcome outcome = read_text(reading, &open[i % 2]);
        outcomes[i] = (uint8_t)outcome;
        ends[i] = reading->n_ids;
        if (outcome > worst)
            worst = outcome;
    }
    return worst;
}

/* Prefetch the rows of these tokens. */
static void prefetch_rows(const Table *table, const int32_t *ids, size_t n_ids) {
    static const size_t bytes_of_type[N_ROW_TYPES] = {4, 2, 1};
    const size_t row_bytes = table->dim * bytes_of_type[table->type];
    for (size_t i = 0; i < n_ids; i++) {
        const size_t place = (size_t)(table->mapping ? table->mapping[ids[i]] : ids[i]);
        if (place >= table->n_rows)
            continue;
        const char *row = (const char *)table->rows + place * row_bytes;
        for (size_t byte = 0; byte < row_bytes; byte += CACHE_LINE)
            PREFETCH(row + byte);
    }
}

static Outcome embed_ids(const Table *table, const int32_t *ids, size_t n_ids, bool normalize, double *wide,
                         float *embedding) {
    const size_t dim = table->dim;
    if (n_ids == 0) {
        memset(embedding, 0, dim * sizeof(float));
        return DONE;
    }
    if (n_ids > ROWS_PER_SUM)
        memset(wide, 0, dim * sizeof(double));
    for (size_t start = 0; start < n_ids; start += ROWS_PER_SUM) {
        const size_t n = n_ids - start < ROWS_PER_SUM ? n_ids - start : ROWS_PER_SUM;
        const int32_t *places = ids + start;
        int32_t mapped[ROWS_PER_SUM];
        float factors[ROWS_PER_SUM];
        if (table->mapping) {
            for (size_t i = 0; i < n; i++) {
                mapped[i] = table->mapping[ids[start + i]];
                if (mapped[i] < 0 || (size_t)mapped[i] >= table->n_rows)
                    return BAD_ROW;
            }
            places = mapped;
        }
        if (table->weights)
            for (size_t i = 0; i < n; i++)
                factors[i] = table->weights[ids[start + i]];
        table->kernels->add_rows[table->type](table->rows, dim, places, table->weights ? factors : NULL, n, embedding);
        if (n_ids > ROWS_PER_SUM)
            for (size_t d = 0; d < dim; d++)
                wide[d] += embedding[d];
    }
    table->kernels->finish(embedding, n_ids > ROWS_PER_SUM ? wide : NULL, dim, n_ids, normalize);
    return DONE;
}

Outcome embed_texts(Reading *reading, const Table *table, const Text *texts, size_t n_texts, bool normalize,
                    double *wide, float *embeddings, uint8_t *outcomes) {
    Outcome worst = reserve_ids(reading, 1) ? DONE : NO_MEMORY;
    size_t ends[TEXTS_AT_ONCE];
    for (size_t start = 0; start < n_texts && worst < NO_MEMORY; start += TEXTS_AT_ONCE) {
        const size_t n = n_texts - start < TEXTS_AT_ONCE ? n_texts - start : TEXTS_AT_ONCE;
        reading->n_ids = 0;
        const Outcome outcome = read_texts(reading, texts + start, n, outcomes + start, ends);
        if (outcome > worst)
            worst = outcome;
        prefetch_rows(table, reading->ids, reading->n_ids < ROWS_AHEAD ? reading->n_ids : ROWS_AHEAD);
        for (size_t i = 0; i < n && worst < NO_MEMORY; i++) {
            if (outcomes[start + i] != DONE)
                continue;
            const size_t first = i ? ends[i - 1] : 0;
            const size_t ahead = ends[i] + ROWS_AHEAD < reading->n_ids ? ends[i] + ROWS_AHEAD : reading->n_ids;
            if (ahead > ends[i])
                prefetch_rows(table, reading->ids + ends[i], ahead - ends[i]);
            if (embed_ids(table, reading->ids + first, ends[i] - first, normalize, wide,
                          embeddings + (start + i) * table->dim) != DONE)
                worst = BAD_ROW;
        }
    }
    return worst;
}
