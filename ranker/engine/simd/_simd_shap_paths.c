/* The walks of _simd_shap_walk.h, compiled once for each instruction set, and what they share. */

#include "_simd_shap.h"
#include "_simd_target.h"

#include <stdlib.h>
#include <string.h>

static size_t padded(size_t bytes)
{
    return (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

struct source {
    const struct block *block;
    size_t row; /* in the block */
};

/* Where the next rows begin; they need not be aligned. */
static void next_rows(struct source *source, size_t count, size_t row_size, const char **row)
{
    for (; count > 0; count--) {
        while (source->row == source->block->rows) {
            source->block++;
            source->row = 0;
        }
        *row++ = source->block->data + row_size * source->row++;
    }
}

/* Which row and which point are in a lane. */
struct lane {
    size_t row, point;
};

/* The features of the rows in the lanes, column by column. */
static void fill_columns(const struct explainer *explainer, const char *const *row,
                         const struct lane *lane, size_t lanes, double *columns)
{
    for (uint32_t column = 0; column < explainer->num_columns; column++) {
        double *to = columns + LANES * (size_t)column;
        for (size_t i = 0; i < lanes; i++) {
            float x;
            memcpy(&x, row[lane[i].row] + sizeof x * explainer->feature[column], sizeof x);
            if (explainer->floored[column]) x = floorf(x);
            to[i] = widened(x);
        }
        for (size_t i = lanes; i < LANES; i++) to[i] = 0;
    }
}

/* -1 where a value is a member of the set, else 1. */
static void fill_membership(const struct explainer *explainer, uint32_t which, const double *x,
                            double *sign)
{
    const struct category_set *set = &explainer->sets[which - 1];
    for (size_t i = 0; i < LANES; i++) {
        size_t begin = set->begin, end = set->end;
        while (begin < end) {
            size_t middle = begin + (end - begin) / 2;
            if (explainer->members[middle] < x[i])
                begin = middle + 1;
            else
                end = middle;
        }
        int member = x[i] != x[i] ? set->missing
                                  : begin < set->end && explainer->members[begin] == x[i];
        sign[i] = member ? -1 : 1;
    }
}

/* What a walk knows of a split on its way; an array has a value for each lane. */
struct level {
    _Alignas(CACHE_LINE) double down[LANES]; /* the product of the factors from the root to here */
    double factor[LANES]; /* of the first child */
    double effect[LANES]; /* of the difference between the children on the feature */
    double up[LANES];     /* the first child's sum over leaves of value times factors below it */
    double alive[LANES];  /* a vector mask: whether the row agrees with the splits above on the */
    double taken[LANES];  /* feature; and with this one, on the way to the child that is walked */
    uint32_t column;
    uint8_t repeated;
};

/* The memory of one call. */
struct workplace {
    double *columns;       /* [num_columns][LANES] */
    double *contributions; /* [num_columns][LANES] */
    double *sums;          /* [LANES rows][num_columns] */
    struct level *levels;  /* [max_level] */
    _Alignas(CACHE_LINE) double point[LANES];
    double rest[LANES], weight[LANES], membership[LANES];
};

static struct workplace *workplace_new(const struct explainer *explainer)
{
    size_t table = sizeof(double) * LANES * (explainer->num_columns + (size_t)1);
    size_t levels = sizeof(struct level) * (explainer->max_level + (size_t)1);
    size_t own = padded(sizeof(struct workplace));
    char *memory = aligned_alloc(CACHE_LINE, own + 3 * table + padded(levels));
    if (memory == NULL) return NULL;
    struct workplace *place = (struct workplace *)memory;
    place->columns = (double *)(memory + own);
    place->contributions = (double *)(memory + own + table);
    place->sums = (double *)(memory + own + 2 * table);
    place->levels = (struct level *)(memory + own + 3 * table);
    return place;
}

/* Adds the contributions that were found for the lanes to the sums of their rows. */
static void add_lanes(const struct explainer *explainer, const struct workplace *place,
                      const struct lane *lane, size_t lanes)
{
    for (size_t i = 0; i < lanes; i++) {
        double *sum = place->sums + lane[i].row * explainer->num_columns;
        for (uint32_t column = 0; column < explainer->num_columns; column++)
            sum[column] += place->contributions[LANES * (size_t)column + i];
    }
}

static void write_row(const struct explainer *explainer, const double *sum, float *out)
{
    memset(out, 0, sizeof *out * explainer->num_features);
    for (uint32_t column = 0; column < explainer->num_columns; column++)
        out[explainer->feature[column]] = (float)sum[column];
    out[explainer->num_features] = (float)explainer->bias;
}

/* ---- Portable: C with the compiler's own vectors of 2 ----------------------------------- */

typedef double double2 __attribute__((vector_size(16), may_alias));
typedef long long long2 __attribute__((vector_size(16), may_alias));

static inline double2 splat_portable(double x) { return (double2){x, x}; }

static inline double2 select_portable(long2 mask, double2 if_set, double2 if_not)
{
    return (double2)((mask & (long2)if_set) | (~mask & (long2)if_not));
}

#define PATH(name) name##_portable
#define VECTOR double2
#define MASK long2
#define SPLAT splat_portable
#define LOAD(p) (*(const double2 *)(p))
#define STORE(p, a) (*(double2 *)(p) = (a))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define DIV(a, b) ((a) / (b))
#define FMA(a, b, c) ((a) * (b) + (c))
#define FNMA(a, b, c) ((c) - (a) * (b))
#define LESS(a, b) ((long2)((a) < (b)))
#define SELECT select_portable
#define KEEP(mask, a) ((double2)((mask) & (long2)(a)))
#define AND_MASK(a, b) ((a) & (b))
#define AND_NOT_MASK(a, b) ((a) & ~(b))
#define ALL_SET ((long2){-1, -1})
#define LOAD_MASK(p) (*(const long2 *)(p))
#define STORE_MASK(p, a) (*(long2 *)(p) = (a))
#include "_simd_shap_walk.h"

#if defined(__x86_64__)

/* ---- AVX2: 4 doubles ------------------------------------------------------------------ */

BEGIN_TARGET_AVX2

#define PATH(name) name##_avx2
#define VECTOR __m256d
#define MASK __m256d
#define SPLAT _mm256_set1_pd
#define LOAD _mm256_load_pd
#define STORE _mm256_store_pd
#define SUB _mm256_sub_pd
#define MUL _mm256_mul_pd
#define DIV _mm256_div_pd
#define FMA _mm256_fmadd_pd
#define FNMA _mm256_fnmadd_pd
#define LESS(a, b) _mm256_cmp_pd(a, b, _CMP_LT_OQ)
#define SELECT(mask, if_set, if_not) _mm256_blendv_pd(if_not, if_set, mask)
#define KEEP _mm256_and_pd
#define AND_MASK _mm256_and_pd
#define AND_NOT_MASK(a, b) _mm256_andnot_pd(b, a)
#define ALL_SET _mm256_castsi256_pd(_mm256_set1_epi64x(-1))
#define LOAD_MASK _mm256_load_pd
#define STORE_MASK _mm256_store_pd
#include "_simd_shap_walk.h"

END_TARGET

/* ---- AVX-512: 8 doubles --------------------------------------------------------------- */

BEGIN_TARGET_AVX512

#define PATH(name) name##_avx512
#define VECTOR __m512d
#define MASK __mmask8
#define SPLAT _mm512_set1_pd
#define LOAD _mm512_load_pd
#define STORE _mm512_store_pd
#define SUB _mm512_sub_pd
#define MUL _mm512_mul_pd
#define DIV _mm512_div_pd
#define FMA _mm512_fmadd_pd
#define FNMA _mm512_fnmadd_pd
#define LESS(a, b) _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ)
#define SELECT(mask, if_set, if_not) _mm512_mask_blend_pd(mask, if_not, if_set)
#define KEEP _mm512_maskz_mov_pd
#define AND_MASK(a, b) ((__mmask8)((a) & (b)))
#define AND_NOT_MASK(a, b) ((__mmask8)((a) & ~(b)))
#define ALL_SET ((__mmask8)0xff)
#define LOAD_MASK(p) (*(const __mmask8 *)(p))
#define STORE_MASK(p, a) (*(__mmask8 *)(p) = (a))
#include "_simd_shap_walk.h"

END_TARGET

#endif
