/* Sums rows of a table with the processor's vector instructions. */
#ifndef M2V_ROWS_H
#define M2V_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { FLOAT32, FLOAT16, INT8, N_ROW_TYPES } RowType;

/* Rows summed in float32 before the sum continues in float64: same sums as in `encoder/plain.py`, bit for bit. */
enum { ROWS_PER_SUM = 64 };

/* Number of rows to prefetch ahead of the current one. */
enum { ROWS_AHEAD = 8 };

/* The loops, compiled for one instruction set. */
typedef struct {
    const char *name;

    /* Write the sum of `n` rows of `dim` numbers, in order, to `sum`: row `places[i]` times `factors[i]`, if any. */
    void (*add_rows[N_ROW_TYPES])(const void *rows, size_t dim, const int32_t *places, const float *factors, size_t n,
                                  float *sum);

    /* Divide a sum by its length if `normalize`, otherwise by `n`. The sum is in `wide` unless that is NULL. */
    void (*finish)(float *sum, const double *wide, size_t dim, size_t n, bool normalize);

    /* Write A^T (A table) for a sparse matrix A (n_rows, n_columns) in CSR form; table and products are
       (n_columns, dim). A is read once, row by row; `row` must have room for `dim` numbers. */
    void (*multiply_by_gram)(const int32_t *starts, const int32_t *columns, const float *values, size_t n_rows,
                             size_t n_columns, const float *table, size_t dim, float *products, float *row);
} RowKernels;

/* The fastest loops that this processor supports. */
const RowKernels *row_kernels(void);

/* All loops that this processor supports, the fastest last; returns their number. */
enum { MAX_ROW_KERNELS = 4 };
size_t every_row_kernels(const RowKernels *found[MAX_ROW_KERNELS]);

/* The loops with this name, or NULL. */
const RowKernels *row_kernels_named(const char *name);

#endif
