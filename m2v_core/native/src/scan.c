#include "scan.h"

#include "text.h"

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#elif defined(__ARM_NEON) || defined(_M_ARM64)
#include <arm_neon.h>
#endif
#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#endif

enum { BLOCK = 64 };

static inline unsigned lowest_bit(uint64_t mask) {
#if defined(_MSC_VER) && !defined(__clang__)
    unsigned long place;
    _BitScanForward64(&place, mask);
    return (unsigned)place;
#else
    return (unsigned)__builtin_ctzll(mask);
#endif
}

/* Bit i: whether byte i of the block is a space or, if `lines`, a tab, line feed or carriage return. */
static uint64_t cut_bytes(const uint8_t *block, bool lines) {
#if defined(__SSE2__) || defined(_M_X64)
    uint64_t mask = 0;
    for (int part = 0; part < 4; part++) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(block + 16 * part));
        __m128i cut = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(' '));
        if (lines) {
            cut = _mm_or_si128(cut, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n')));
            cut = _mm_or_si128(cut, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t')));
            cut = _mm_or_si128(cut, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r')));
        }
        mask |= (uint64_t)(uint32_t)_mm_movemask_epi8(cut) << (16 * part);
    }
    return mask;
#elif defined(__ARM_NEON) || defined(_M_ARM64)
    static const uint8_t bit_of_byte[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t bits = vld1q_u8(bit_of_byte);
    uint8x16_t cuts[4];
    for (int part = 0; part < 4; part++) {
        const uint8x16_t bytes = vld1q_u8(block + 16 * part);
        uint8x16_t cut = vceqq_u8(bytes, vdupq_n_u8(' '));
        if (lines) {
            cut = vorrq_u8(cut, vceqq_u8(bytes, vdupq_n_u8('\n')));
            cut = vorrq_u8(cut, vceqq_u8(bytes, vdupq_n_u8('\t')));
            cut = vorrq_u8(cut, vceqq_u8(bytes, vdupq_n_u8('\r')));
        }
        cuts[part] = vandq_u8(cut, bits);
    }
    /* Adding neighbors three times gathers the bits of eight bytes in one. */
    const uint8x16_t halves = vpaddq_u8(vpaddq_u8(cuts[0], cuts[1]), vpaddq_u8(cuts[2], cuts[3]));
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(halves, halves)), 0);
#else
    uint64_t mask = 0;
    for (int i = 0; i < BLOCK; i++) {
        const bool ends_line = block[i] == '\n' || block[i] == '\t' || block[i] == '\r';
        mask |= (uint64_t)(block[i] == ' ' || (lines && ends_line)) << i;
    }
    return mask;
#endif
}

/* Whether the text before `end` ends in a character that a tokenizer might treat as whitespace. */
static bool ends_in_space(const uint8_t *start, const uint8_t *end) {
    const uint8_t last = end[-1];
    if (last < 0x80)
        return last <= 0x20 || last == 0x7F;
    if (end - start >= 2 && end[-2] == 0xC2)
        return last == 0x85 || last == 0xA0;
    if (end - start < 3)
        return false;
    const uint8_t first = end[-3], middle = end[-2];
    if (first == 0xE2) /* U+2000 to U+203F and U+205F to U+206F, including invisible characters */
        return (middle == 0x80 && (last <= 0x8F || (last >= 0xA8 && last <= 0xAF))) || (middle == 0x81 && last >= 0x9F);
    return (first == 0xE1 && middle == 0x9A && last == 0x80) || (first == 0xE3 && middle == 0x80 && last == 0x80);
}

/* Compute the cuts of the block at `scanner->block`; the end of the text is also a cut. */
static void load_block(Scanner *scanner) {
    const bool lines = !scanner->splitting.carries_space || scanner->splitting.cuts_at_lines;
    const size_t left = scanner->length - scanner->block;
    if (left >= BLOCK) {
        scanner->cuts = cut_bytes(scanner->text + scanner->block, lines);
        return;
    }
    uint8_t last_block[BLOCK] = {0};
    memcpy(last_block, scanner->text + scanner->block, left);
    scanner->cuts = cut_bytes(last_block, lines) | UINT64_C(1) << left;
}

Scanner scanner_at(const uint8_t *text, size_t length, Splitting splitting) {
    Scanner scanner = {text, length, splitting, 0, 0, 0, length == 0};
    if (length)
        load_block(&scanner);
    return scanner;
}

size_t next_chunks(Scanner *scanner, Chunk *chunks, size_t room) {
    const uint8_t *text = scanner->text;
    const bool carries_space = scanner->splitting.carries_space;
    size_t start = scanner->chunk_start, n_chunks = 0;
    uint64_t cuts = scanner->cuts;
    while (!scanner->is_done) {
        while (cuts) {
            const size_t place = scanner->block + lowest_bit(cuts);
            if (n_chunks == room)
                goto full;
            cuts &= cuts - 1;
            const bool is_end = place == scanner->length;
            if (place > start && (!carries_space || is_end || !ends_in_space(text + start, text + place))) {
                chunks[n_chunks++] = (Chunk){text + start, place - start};
                start = place;
            }
            if (is_end) {
                scanner->is_done = true;
                goto full;
            }
            if (!carries_space)
                start = place + 1;
        }
        scanner->block += BLOCK;
        load_block(scanner);
        cuts = scanner->cuts;
    }
full:
    scanner->chunk_start = start;
    scanner->cuts = cuts;
    return n_chunks;
}
