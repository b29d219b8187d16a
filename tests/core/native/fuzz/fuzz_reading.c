/* Any bytes as texts and chunks: the scanner against a byte-by-byte reference, the table of chunks against a list.

   With clang, `make fuzz` links libFuzzer. Other compilers get the `main` below, which tries random inputs:
   fuzz_reading [n_inputs] [seed]. Sanitizers find what the assertions don't. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reading.h"

enum { MAX_CHUNKS = 4096, N_VOCABULARY = 97 };

static bool is_white(const uint8_t *start, const uint8_t *end) {
    static const char *const spaces[] = {"\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE3\x80\x80", "\xE2\x80\x80",
                                         "\xE2\x80\x8F", "\xE2\x80\xA8", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE2\x81\xAF"};
    if (end[-1] <= 0x20 || end[-1] == 0x7F)
        return true;
    for (size_t i = 0; i < sizeof(spaces) / sizeof(*spaces); i++) {
        const size_t length = strlen(spaces[i]);
        if ((size_t)(end - start) >= length && memcmp(end - length, spaces[i], length) == 0)
            return true;
    }
    /* The ranges between the pairs above. */
    return end - start >= 3 && end[-3] == 0xE2 &&
           ((end[-2] == 0x80 && (end[-1] <= 0x8F || (end[-1] >= 0xA8 && end[-1] <= 0xAF))) ||
            (end[-2] == 0x81 && end[-1] >= 0x9F)) &&
           end[-1] >= 0x80;
}

static bool is_cut(uint8_t byte, bool lines) {
    return byte == ' ' || (lines && (byte == '\t' || byte == '\n' || byte == '\r'));
}

/* Slow reference for `next_chunks`, one byte at a time. */
static size_t slow_chunks(const uint8_t *text, size_t length, Splitting splitting, Chunk *chunks) {
    const bool lines = !splitting.carries_space || splitting.cuts_at_lines;
    size_t n = 0, start = 0;
    for (size_t place = 0; place <= length; place++) {
        const bool is_end = place == length;
        if (!is_end && !is_cut(text[place], lines))
            continue;
        if (splitting.carries_space && !is_end && (place == start || is_white(text + start, text + place)))
            continue;
        if (place > start)
            chunks[n++] = (Chunk){text + start, place - start};
        start = splitting.carries_space ? place : place + 1;
    }
    return n;
}

static void check_scanner(const uint8_t *text, size_t length, Splitting splitting, Chunk *expected) {
    const size_t n_expected = slow_chunks(text, length, splitting, expected);
    Scanner scanner = scanner_at(text, length, splitting);
    Chunk found[7];
    size_t n_found = 0;
    for (size_t n; (n = next_chunks(&scanner, found, 7)) > 0;) {
        for (size_t i = 0; i < n; i++, n_found++) {
            assert(n_found < n_expected);
            assert(found[i].bytes == expected[n_found].bytes && found[i].length == expected[n_found].length);
        }
    }
    assert(n_found == n_expected);
}

/* Insert chunks with ids derived from their bytes, merge tables, and read the text with them. */
static void check_table(const uint8_t *text, size_t length, Splitting splitting, const Chunk *chunks, size_t n_chunks,
                        uint64_t hash_mask) {
    Reading reading = {.splitting = splitting, .max_tokens = SIZE_MAX, .unknown = 5};
    ChunkTable *known = malloc(sizeof(ChunkTable));
    assert(known && init_chunk_table(known, 64, hash_mask));
    reading.known = known;
    /* Two copies, because reading a text also prefetches the next one. */
    const Text twice[] = {{text, length}, {text, length}};
    uint8_t outcomes[2];
    size_t ends[2];
    const Outcome first = read_texts(&reading, twice, 2, outcomes, ends);
    assert(first == (n_chunks ? MISSING : DONE));
    if (reading.extra) {
        for (size_t i = 0; i < reading.extra->n_slots; i++) {
            Slot *slot = &reading.extra->slots[i];
            if (!slot->meta)
                continue;
            int32_t ids[8];
            const size_t n_bytes = length_of(slot->meta), n_ids = n_bytes % 5;
            for (size_t j = 0; j < n_ids; j++)
                ids[j] = slot_bytes(reading.extra, slot, n_bytes)[j % n_bytes] % N_VOCABULARY;
            assert(set_tokens(reading.extra, slot, ids, n_ids, 0));
        }
        bool made;
        const ChunkLimits limits = {1 << 20, 1 << 20, 1 << 20, SIZE_MAX};
        ChunkTable *merged = merge_chunks(known, reading.extra, limits, &made);
        assert(merged);
        if (made) {
            free_chunk_table(known);
            free(known);
            known = merged;
        }
        free_chunk_table(reading.extra);
        free(reading.extra);
        reading.extra = NULL;
    }
    reading.known = known;
    reading.n_ids = 0;
    assert(read_texts(&reading, twice, 2, outcomes, ends) == DONE && !reading.extra);
    assert(ends[1] == reading.n_ids && ends[0] * 2 == ends[1]);
    assert(ends[0] == 0 || memcmp(reading.ids, reading.ids + ends[0], ends[0] * sizeof(*reading.ids)) == 0);
    size_t at = 0;
    for (size_t i = 0; i < n_chunks; i++) {
        for (size_t j = 0; j < chunks[i].length % 5; j++) {
            const int32_t id = chunks[i].bytes[j % chunks[i].length] % N_VOCABULARY;
            if (id == reading.unknown)
                continue;
            assert(at < ends[0] && reading.ids[at] == id);
            at++;
        }
    }
    assert(at == ends[0]);
    free(reading.ids);
    free_chunk_table(known);
    free(known);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static Chunk chunks[MAX_CHUNKS + 1];
    if (size < 1 || size > MAX_CHUNKS)
        return 0;
    const Splitting splitting = {data[0] & 1, data[0] >> 1 & 1};
    const uint64_t hash_mask = data[0] & 4 ? UINT64_MAX : data[0] >> 3;
    /* A copy of exactly this size, so that the address sanitizer sees every byte read past its end. */
    const size_t length = size - 1;
    uint8_t *text = malloc(length ? length : 1);
    assert(text);
    memcpy(text, data + 1, length);
    check_scanner(text, length, splitting, chunks);
    check_table(text, length, splitting, chunks, slow_chunks(text, length, splitting, chunks), hash_mask);
    free(text);
    return 0;
}

#ifndef LIBFUZZER
static uint64_t random_state;

static uint32_t random_below(uint32_t n) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 11) % n;
}

int main(int n_arguments, char **arguments) {
    static const char *const atoms[] = {" ",  "  ",       "\n",           "\t",           "\r",           "a",
                                        "bc", "\xC2\xA0", "\xE2\x80\x8A", "\xE2\x81\xA0", "\xE3\x80\x80", "\x7F",
                                        "\x01", "word", "longer-than-sixteen-bytes", "\xF0\x9F\xA6\x84", "\xC3\xA9"};
    const long n_inputs = n_arguments > 1 ? atol(arguments[1]) : 100000;
    random_state = n_arguments > 2 ? strtoull(arguments[2], NULL, 10) : 1;
    for (long i = 0; i < n_inputs; i++) {
        uint8_t data[512];
        size_t size = 1;
        data[0] = (uint8_t)random_below(256);
        for (uint32_t left = random_below(40); left > 0 && size < 400; left--) {
            const char *atom = atoms[random_below(sizeof(atoms) / sizeof(*atoms))];
            const size_t length = strlen(atom);
            if (random_below(4)) {
                memcpy(data + size, atom, length);
                size += length;
            } else {
                data[size++] = (uint8_t)random_below(256);
            }
        }
        LLVMFuzzerTestOneInput(data, size);
    }
    printf("%ld inputs\n", n_inputs);
    return 0;
}
#endif
