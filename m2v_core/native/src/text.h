/* Reads bytes of UTF-8 text: never past its end, and without assuming alignment. */
#ifndef M2V_TEXT_H
#define M2V_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER) && !defined(__clang__)
#define PREFETCH(address) ((void)(address))
#else
#define PREFETCH(address) __builtin_prefetch(address)
#endif

enum { CACHE_LINE = 64 };

/* Eight bytes as a number whose lowest byte comes first in memory. */
static inline uint64_t load_eight(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    return word;
}

/* The first `length` bytes (1 to 8), zeros above them. `end` is where readable memory ends. */
static inline uint64_t load_up_to_eight(const uint8_t *bytes, size_t length, const uint8_t *end) {
    if (length >= 8)
        return load_eight(bytes);
    if ((size_t)(end - bytes) >= 8)
        return load_eight(bytes) & (~UINT64_C(0) >> (64 - 8 * length));
    if (length >= 4) {
        uint32_t low, high;
        memcpy(&low, bytes, 4);
        memcpy(&high, bytes + length - 4, 4);
        return (uint64_t)low | (uint64_t)high << (8 * (length - 4));
    }
    return (uint64_t)bytes[0] | (uint64_t)bytes[length / 2] << (8 * (length / 2)) |
           (uint64_t)bytes[length - 1] << (8 * (length - 1));
}

#endif
