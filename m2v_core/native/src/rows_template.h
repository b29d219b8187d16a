/* The loops of `RowKernels` for one instruction set. `rows.c` includes this file once for each, with:

   NAME(x)             a unique name for each function
   TARGET              attribute that lets the compiler use the instruction set
   V, LANES            vector of float32, and its number of lanes
   BLOCK               number of vectors whose sums stay in registers
   ZERO, SET(x), LOAD_FLOAT32(p), LOAD_FLOAT16(p), LOAD_INT8(p), STORE(p, v), ADD(a, b), MULTIPLY(a, b), DIVIDE(a, b)
*/

#define ADD_BLOCK(n_vectors, LOAD)                                                                                     \
    {                                                                                                                  \
        V sums[n_vectors];                                                                                             \
        for (int v = 0; v < (n_vectors); v++)                                                                          \
            sums[v] = ZERO;                                                                                            \
        if (factors) {                                                                                                 \
            for (size_t i = 0; i < n; i++) {                                                                           \
                const V factor = SET(factors[i]);                                                                      \
                for (int v = 0; v < (n_vectors); v++)                                                                  \
                    sums[v] = ADD(sums[v], MULTIPLY(LOAD(row + (size_t)places[i] * dim + v * LANES), factor));         \
            }                                                                                                          \
        } else {                                                                                                       \
            for (size_t i = 0; i < n; i++) {                                                                           \
                const size_t ahead = i + ROWS_AHEAD < n ? i + ROWS_AHEAD : n - 1;                                      \
                const char *next = (const char *)(row + (size_t)places[ahead] * dim);                                  \
                for (size_t byte = 0; byte < (n_vectors) * LANES * sizeof(*row); byte += CACHE_LINE)                   \
                    PREFETCH(next + byte);                                                                             \
                for (int v = 0; v < (n_vectors); v++)                                                                  \
                    sums[v] = ADD(sums[v], LOAD(row + (size_t)places[i] * dim + v * LANES));                           \
            }                                                                                                          \
        }                                                                                                              \
        for (int v = 0; v < (n_vectors); v++)                                                                          \
            STORE(sum + d + v * LANES, sums[v]);                                                                       \
    }

#define DEFINE_ADD_ROWS(function, TYPE, LOAD, to_float)                                                                \
    TARGET static void NAME(function)(const void *rows, size_t dim, const int32_t *places, const float *factors,       \
                                      size_t n, float *sum) {                                                          \
        size_t d = 0;                                                                                                  \
        for (; d + BLOCK * LANES <= dim; d += BLOCK * LANES) {                                                         \
            const TYPE *row = (const TYPE *)rows + d;                                                                  \
            ADD_BLOCK(BLOCK, LOAD)                                                                                     \
        }                                                                                                              \
        for (; d + LANES <= dim; d += LANES) {                                                                         \
            const TYPE *row = (const TYPE *)rows + d;                                                                  \
            ADD_BLOCK(1, LOAD)                                                                                         \
        }                                                                                                              \
        for (; d < dim; d++) {                                                                                         \
            float total = 0;                                                                                           \
            for (size_t i = 0; i < n; i++) {                                                                           \
                const float number = to_float(((const TYPE *)rows)[(size_t)places[i] * dim + d]);                      \
                total += factors ? number * factors[i] : number;                                                       \
            }                                                                                                          \
            sum[d] = total;                                                                                            \
        }                                                                                                              \
    }

DEFINE_ADD_ROWS(add_float32, float, LOAD_FLOAT32, (float))
DEFINE_ADD_ROWS(add_float16, uint16_t, LOAD_FLOAT16, float_of_half)
DEFINE_ADD_ROWS(add_int8, int8_t, LOAD_INT8, (float))

TARGET static void NAME(divide)(float *numbers, size_t dim, float divisor) {
    size_t d = 0;
    for (; d + LANES <= dim; d += LANES)
        STORE(numbers + d, DIVIDE(LOAD_FLOAT32(numbers + d), SET(divisor)));
    for (; d < dim; d++)
        numbers[d] /= divisor;
}

TARGET static void NAME(finish)(float *sum, const double *wide, size_t dim, size_t n, bool normalize) {
    if (wide)
        for (size_t d = 0; d < dim; d++)
            sum[d] = (float)(normalize ? wide[d] : wide[d] / (double)n);
    if (!normalize) {
        if (!wide)
            NAME(divide)(sum, dim, (float)n); /* same rounding as a float64 division: n is exact in float32 */
        return;
    }
    double squares[8] = {0}, total = 0;
    size_t d = 0;
    for (; d + 8 <= dim; d += 8)
        for (int lane = 0; lane < 8; lane++)
            squares[lane] += (double)sum[d + lane] * (double)sum[d + lane];
    for (; d < dim; d++)
        total += (double)sum[d] * (double)sum[d];
    for (int lane = 0; lane < 8; lane++)
        total += squares[lane];
    const float norm = (float)sqrt(total);
    if (norm > 0)
        NAME(divide)(sum, dim, norm);
}

TARGET static void NAME(multiply_by_gram)(const int32_t *starts, const int32_t *columns, const float *values,
                                          size_t n_rows, size_t n_columns, const float *table, size_t dim,
                                          float *products, float *row) {
    memset(products, 0, n_columns * dim * sizeof(float));
    for (size_t i = 0; i < n_rows; i++) {
        memset(row, 0, dim * sizeof(float));
        for (int32_t at = starts[i]; at < starts[i + 1]; at++) {
            const float value = values[at], *summand = table + (size_t)columns[at] * dim;
            for (size_t d = 0; d < dim; d++)
                row[d] += value * summand[d];
        }
        for (int32_t at = starts[i]; at < starts[i + 1]; at++) {
            const float value = values[at];
            float *product = products + (size_t)columns[at] * dim;
            for (size_t d = 0; d < dim; d++)
                product[d] += value * row[d];
        }
    }
}

static const RowKernels NAME(kernels) = {
    INSTRUCTIONS,
    {NAME(add_float32), NAME(add_float16), NAME(add_int8)},
    NAME(finish),
    NAME(multiply_by_gram),
};

#undef ADD_BLOCK
#undef DEFINE_ADD_ROWS
#undef INSTRUCTIONS
#undef NAME
#undef TARGET
#undef V
#undef LANES
#undef BLOCK
#undef ZERO
#undef SET
#undef LOAD_FLOAT32
#undef LOAD_FLOAT16
#undef LOAD_INT8
#undef STORE
#undef ADD
#undef MULTIPLY
#undef DIVIDE
