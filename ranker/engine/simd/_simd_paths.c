/* The walks of _simd_walk.h, compiled once for each instruction set. */

#include "_simd_forest.h"
#include "_simd_target.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { MAX_WIDTH = 128 };

/* Walks in step with each other: as many as hide each other's latency. */
enum { GROUP = 8 };

#if defined(__x86_64__)
/* From how many rows on the wide walk, which costs nearly the same for any number of rows, is
 * faster than the narrow one. Measured with AVX-512: 8 to 11 for tiles of 64 exits, 16 to 20 for
 * 256; with AVX2, on an AMD Zen 3: 4 for 8 and 16 exits, 6 for 64, 8 for 128, 13 for 256. */
static size_t rows_for_wide(const struct forest *forest, size_t vector)
{
    if (forest->num_deep > 0 && forest->place_bits == 0) return SIZE_MAX;
    return vector / 8 + ((size_t)1 << forest->depth) / 28;
}
#endif

/* How many of the rows that are left the next block takes; if fewer than `wide_from`, it is
 * narrow. A pair of vectors takes 1.6 times as long as one. Measured with AVX2, on an AMD Zen 3:
 * a vector and a few rows that walk narrow are as fast as a pair, or faster, up to 33 rows for 16
 * exits, 34 for 8 and 64, 36 for 128, 39 for 256; with AVX-512, on a Zen 5, up to 69 for 64 and 73
 * for 256. */
static size_t block_rows(size_t left, size_t wide_from, size_t vector, size_t most)
{
    if (left < wide_from) return left < COLUMN_UNIT ? left : COLUMN_UNIT;
    if (left > vector && left < vector + wide_from * 5 / 8) return vector;
    return left < most ? left : most;
}

/* A place in the sequence of all blocks' rows. */
struct cursor {
    const struct block *block;
    size_t row; /* in the block */
    size_t row_size;
};

static struct cursor cursor_at(const struct block *blocks, size_t row, uint32_t num_features)
{
    while (row >= blocks->rows) row -= blocks++->rows;
    return (struct cursor){blocks, row, num_features * sizeof(float)};
}

static void next_rows(struct cursor *cursor, size_t count, const char **row)
{
    while (count > 0) {
        while (cursor->row == cursor->block->rows) {
            cursor->block++;
            cursor->row = 0;
        }
        *row++ = cursor->block->data + cursor->row_size * cursor->row++;
        count--;
    }
}

static inline void read_column(const struct forest *forest, const char *const *row, size_t count,
                               uint32_t feature, float *x)
{
    for (size_t r = 0; r < count; r++) /* rows need not be aligned */
        memcpy(&x[r], row[r] + sizeof *x * feature, sizeof *x);
    if (forest->floored[feature])
        for (size_t r = 0; r < count; r++) x[r] = floorf(x[r]);
}

static uint8_t code_member(const struct set *set, float x)
{
    if (x != x) return set->missing;
    size_t begin = 0, end = set->size;
    while (begin < end) {
        size_t middle = (begin + end) / 2;
        if (set->members[middle] < x)
            begin = middle + 1;
        else
            end = middle;
    }
    return !(begin < set->size && set->members[begin] == x);
}

static void code_sets(const struct forest *forest, const char *const *row, size_t count,
                      size_t stride, int8_t *codes)
{
    float x[MAX_WIDTH];
    for (size_t i = 0; i < forest->num_sets; i++) {
        const struct set *set = &forest->sets[i];
        read_column(forest, row, count, set->feature, x);
        for (size_t r = 0; r < count; r++)
            codes[stride * set->column + r] = signed_code(code_member(set, x[r]));
    }
}

/* The codes of a block of at most so many rows. */
static int8_t *new_codes(const struct forest *forest, size_t rows)
{
    size_t size = (rows * forest->num_columns + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    int8_t *codes = aligned_alloc(CACHE_LINE, size);
    /* A wide walk takes the unused rows of a block along. */
    return codes && rows > COLUMN_UNIT ? memset(codes, 0, size) : codes;
}

/* ---- Portable: C with the compiler's own vectors of 4, which any processor can do --------- */

typedef float float4 __attribute__((vector_size(16), may_alias));
typedef int int4 __attribute__((vector_size(16)));

static inline unsigned count_at_most_portable(const float *groups, float x)
{
    const float4 *group = (const float4 *)groups;
    const float4 xs = {x, x, x, x};
    int4 count = (group[0] <= xs) + (group[1] <= xs) + (group[2] <= xs) + (group[3] <= xs);
    return (unsigned)-(count[0] + count[1] + count[2] + count[3]); /* true is -1 */
}

#define PATH(name) name##_portable
#define COUNT_AT_MOST count_at_most_portable
#define VECTOR_ROWS COLUMN_UNIT
#define MOST_ROWS COLUMN_UNIT
#include "_simd_walk.h"

#if defined(__x86_64__)

/* ---- AVX2: 32 rows per vector, which can be a pair ------------------------------------ */

BEGIN_TARGET_AVX2

static inline unsigned count_at_most_avx2(const float *groups, float x)
{
    __m256 xs = _mm256_set1_ps(x);
    __m256 low = _mm256_cmp_ps(_mm256_load_ps(groups), xs, _CMP_LE_OQ);
    __m256 high = _mm256_cmp_ps(_mm256_load_ps(groups + 8), xs, _CMP_LE_OQ);
    return (unsigned)_mm_popcnt_u32((unsigned)_mm256_movemask_ps(low) |
                                    (unsigned)_mm256_movemask_ps(high) << 8);
}

#include "_simd_code_avx2.h"
#include "_simd_vector_avx2.h"

#define ONE(name) name##_one_avx2
#define PAIR(name) name##_pair_avx2
#include "_simd_pair.h"

#define VECTOR_ROWS 32
#define MOST_ROWS 64

#define WIDE(name) name##_one_avx2
#define CODE_ROWS code_rows_avx2
#define SHUFFLE_LOG 4
#include "_simd_wide.h"

#define WIDE(name) name##_pair_avx2
#define CODE_ROWS code_rows_avx2
#define SHUFFLE_LOG 4
#include "_simd_wide.h"

#define PATH(name) name##_avx2
#define COUNT_AT_MOST count_at_most_avx2
#define HAS_WIDE
#include "_simd_walk.h"

END_TARGET

/* ---- AVX-512 with VBMI: 64 rows per vector, which can be a pair ----------------------- */

BEGIN_TARGET_AVX512

static inline unsigned count_at_most_avx512(const float *groups, float x)
{
    return (unsigned)_mm_popcnt_u32(
        _mm512_cmp_ps_mask(_mm512_load_ps(groups), _mm512_set1_ps(x), _CMP_LE_OQ));
}

#include "_simd_code_avx512.h"
#include "_simd_vector_avx512.h"

#define ONE(name) name##_one_avx512
#define PAIR(name) name##_pair_avx512
#include "_simd_pair.h"

#define VECTOR_ROWS 64
#define MOST_ROWS 128

#define WIDE(name) name##_one_avx512
#define CODE_ROWS code_rows_avx512
#define SHUFFLE_LOG 6
#include "_simd_wide.h"

#define WIDE(name) name##_pair_avx512
#define CODE_ROWS code_rows_avx512
#define SHUFFLE_LOG 6
#include "_simd_wide.h"

#define PATH(name) name##_avx512
#define COUNT_AT_MOST count_at_most_avx512
#define HAS_WIDE
#include "_simd_walk.h"

END_TARGET

#endif
