#include "rows.h"

#include <math.h>
#include <string.h>

#include "text.h"

#if defined(__x86_64__) || defined(_M_X64)
#define X86 1
#include <immintrin.h>
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) || defined(_M_ARM64)
#define ARM 1
#include <arm_neon.h>
#endif

/* MSVC compiles intrinsics of any instruction set; other compilers need an attribute. */
#if defined(_MSC_VER) && !defined(__clang__)
#define FOR(features)
#else
#define FOR(features) __attribute__((target(features)))
#endif

/* IEEE 754 half precision: 1 bit of sign, 5 of exponent, 10 of fraction. */
static inline float float_of_half(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 0x3FF;
    uint32_t bits = sign | (exponent + 112) << 23 | fraction << 13;
    float number;
    if (exponent == 31)
        bits = sign | UINT32_C(0x7F800000) | fraction << 13;
    if (exponent == 0) {
        number = (float)fraction * 0x1p-24f;
        return sign ? -number : number;
    }
    memcpy(&number, &bits, sizeof(number));
    return number;
}

#define INSTRUCTIONS "plain C"
#define NAME(x) x##_plain
#define TARGET
#define V float
#define LANES 1
#define BLOCK 8
#define ZERO 0.0f
#define SET(x) (x)
#define LOAD_FLOAT32(p) (*(p))
#define LOAD_FLOAT16(p) float_of_half(*(p))
#define LOAD_INT8(p) ((float)*(p))
#define STORE(p, v) (*(p) = (v))
#define ADD(a, b) ((a) + (b))
#define MULTIPLY(a, b) ((a) * (b))
#define DIVIDE(a, b) ((a) / (b))
#include "rows_template.h"

#if X86
#define INSTRUCTIONS "AVX2"
#define NAME(x) x##_avx2
#define TARGET FOR("avx2,f16c")
#define V __m256
#define LANES 8
#define BLOCK 12
#define ZERO _mm256_setzero_ps()
#define SET(x) _mm256_set1_ps(x)
#define LOAD_FLOAT32(p) _mm256_loadu_ps(p)
#define LOAD_FLOAT16(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define LOAD_INT8(p) _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define ADD(a, b) _mm256_add_ps(a, b)
#define MULTIPLY(a, b) _mm256_mul_ps(a, b)
#define DIVIDE(a, b) _mm256_div_ps(a, b)
#include "rows_template.h"

#define INSTRUCTIONS "AVX-512"
#define NAME(x) x##_avx512
#define TARGET FOR("avx512f")
#define V __m512
#define LANES 16
#define BLOCK 16
#define ZERO _mm512_setzero_ps()
#define SET(x) _mm512_set1_ps(x)
#define LOAD_FLOAT32(p) _mm512_loadu_ps(p)
#define LOAD_FLOAT16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define LOAD_INT8(p) _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p))))
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define ADD(a, b) _mm512_add_ps(a, b)
#define MULTIPLY(a, b) _mm512_mul_ps(a, b)
#define DIVIDE(a, b) _mm512_div_ps(a, b)
#include "rows_template.h"

static void cpuid(uint32_t leaf, uint32_t registers[4]) {
#if defined(_MSC_VER)
    __cpuidex((int *)registers, (int)leaf, 0);
#else
    __cpuid_count(leaf, 0, registers[0], registers[1], registers[2], registers[3]);
#endif
}

/* The registers that the operating system saves: bits 1 and 2 for SSE and AVX, 5 to 7 for AVX-512. */
static uint64_t saved_registers(void) {
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
#endif
}
#endif

#if ARM
#define INSTRUCTIONS "NEON"
#define NAME(x) x##_neon
#define TARGET
#define V float32x4_t
#define LANES 4
#define BLOCK 16
#define ZERO vdupq_n_f32(0)
#define SET(x) vdupq_n_f32(x)
#define LOAD_FLOAT32(p) vld1q_f32(p)
#define LOAD_FLOAT16(p) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))
#define LOAD_INT8(p) four_int8(p)
#define STORE(p, v) vst1q_f32(p, v)
#define ADD(a, b) vaddq_f32(a, b)
#define MULTIPLY(a, b) vmulq_f32(a, b)
#define DIVIDE(a, b) vdivq_f32(a, b)

static inline float32x4_t four_int8(const int8_t *numbers) {
    int32_t four;
    memcpy(&four, numbers, sizeof(four));
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}

#include "rows_template.h"
#endif

size_t every_row_kernels(const RowKernels *found[MAX_ROW_KERNELS]) {
    size_t n = 0;
    found[n++] = &kernels_plain;
#if X86
    uint32_t leaf0[4], leaf1[4], leaf7[4] = {0};
    cpuid(0, leaf0);
    cpuid(1, leaf1);
    if (leaf0[0] >= 7)
        cpuid(7, leaf7);
    const bool has_xgetbv = leaf1[2] >> 27 & 1;
    const uint64_t saved = has_xgetbv ? saved_registers() : 0;
    const bool has_f16c = leaf1[2] >> 29 & 1, has_avx2 = leaf7[1] >> 5 & 1, has_avx512f = leaf7[1] >> 16 & 1;
    if (has_f16c && has_avx2 && (saved & 0x6) == 0x6) {
        found[n++] = &kernels_avx2;
        if (has_avx512f && (saved & 0xE6) == 0xE6)
            found[n++] = &kernels_avx512;
    }
#elif ARM
    found[n++] = &kernels_neon;
#endif
    return n;
}

const RowKernels *row_kernels(void) {
    static const RowKernels *best = NULL;
    if (!best) {
        const RowKernels *found[MAX_ROW_KERNELS];
        best = found[every_row_kernels(found) - 1];
    }
    return best;
}

const RowKernels *row_kernels_named(const char *name) {
    const RowKernels *found[MAX_ROW_KERNELS];
    for (size_t i = every_row_kernels(found); i > 0; i--)
        if (strcmp(found[i - 1]->name, name) == 0)
            return found[i - 1];
    return NULL;
}
