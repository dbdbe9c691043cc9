/* The walks of _simd_walk.h, compiled once for each instruction set. */

#include "_simd_forest.h"
#include "_simd_target.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WIDTH = 64 };

/* Walks in step with each other: as many as hide each other's latency. */
enum { GROUP = 8 };

#if defined(__x86_64__)
/* From how many rows on the wide walk, which costs nearly the same for any number of rows, is
 * faster than the narrow one. Measured with AVX-512: 8 to 11 for tiles of 64 exits, 16 to 20 for
 * 256; with AVX2, on an AMD Zen 3: 4 for 8 and 16 exits, 6 for 64, 8 for 128, 13 for 256. */
static size_t rows_for_wide(const struct forest *forest, size_t width)
{
    if (forest->num_deep > 0 && forest->place_bits == 0) return SIZE_MAX;
    return width / 8 + ((size_t)1 << forest->depth) / 28;
}
#endif

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
                      size_t stride, uint8_t *codes)
{
    float x[MAX_WIDTH];
    for (size_t i = 0; i < forest->num_sets; i++) {
        const struct set *set = &forest->sets[i];
        read_column(forest, row, count, set->feature, x);
        for (size_t r = 0; r < count; r++)
            codes[stride * set->column + r] = code_member(set, x[r]);
    }
}

static uint8_t *new_codes(const struct forest *forest, size_t stride)
{
    size_t size = (stride * forest->num_columns + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    uint8_t *codes = aligned_alloc(CACHE_LINE, size);
    /* A wide walk takes the unused rows of a block along. */
    return codes && stride > COLUMN_UNIT ? memset(codes, 0, size) : codes;
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
#include "_simd_walk.h"
#undef PATH
#undef COUNT_AT_MOST

#if defined(__x86_64__)

/* ---- AVX2: 32 rows per vector --------------------------------------------------------- */

BEGIN_TARGET_AVX2

static inline unsigned count_at_most_avx2(const float *groups, float x)
{
    __m256 xs = _mm256_set1_ps(x);
    __m256 low = _mm256_cmp_ps(_mm256_load_ps(groups), xs, _CMP_LE_OQ);
    __m256 high = _mm256_cmp_ps(_mm256_load_ps(groups + 8), xs, _CMP_LE_OQ);
    return (unsigned)_mm_popcnt_u32((unsigned)_mm256_movemask_ps(low) |
                                    (unsigned)_mm256_movemask_ps(high) << 8);
}

static inline __m256i greater_avx2(__m256i a, __m256i b)
{
    __m256i sign = _mm256_set1_epi8(-128); /* the instruction compares signed bytes */
    return _mm256_cmpgt_epi8(_mm256_xor_si256(a, sign), _mm256_xor_si256(b, sign));
}

#include "_simd_code_avx2.h"

#define PATH(name) name##_avx2
#define COUNT_AT_MOST count_at_most_avx2
#define CODE_WIDE code_wide_avx2
#define VECTOR __m256i
#define FLOATS __m256
#define MASK __m256i
#define SHUFFLE_LOG 4
#define LOAD_TABLE(p) _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(p)))
#define SHUFFLE(table, at) _mm256_shuffle_epi8(table, _mm256_and_si256(at, _mm256_set1_epi8(15)))
#define LOAD(p) _mm256_load_si256((const __m256i *)(p))
#define SPLAT(byte) _mm256_set1_epi8(byte)
#define GREATER greater_avx2
#define BLEND(mask, if_not, if_set) _mm256_blendv_epi8(if_not, if_set, mask)
#define CHILD(at, right) _mm256_sub_epi8(_mm256_add_epi8(at, at), right)
#define UNPACK(half, bits) _mm256_unpack##half##_epi##bits
#define ADD(sum, bits) _mm256_add_ps(sum, _mm256_castsi256_ps(bits))
#define AND _mm256_and_si256
#define AND_EQUAL(mask, a, b) _mm256_and_si256(mask, _mm256_cmpeq_epi8(a, b))
#define BIT(a, i) _mm256_slli_epi16(a, 7 - (i)) /* BLEND looks at the highest bit only */
#include "_simd_walk.h"
#undef PATH
#undef COUNT_AT_MOST
#undef CODE_WIDE
#undef VECTOR
#undef FLOATS
#undef MASK
#undef SHUFFLE_LOG
#undef LOAD_TABLE
#undef SHUFFLE
#undef LOAD
#undef SPLAT
#undef GREATER
#undef BLEND
#undef CHILD
#undef UNPACK
#undef ADD
#undef AND
#undef AND_EQUAL
#undef BIT

END_TARGET

/* ---- AVX-512 with VBMI: 64 rows per vector -------------------------------------------- */

BEGIN_TARGET_AVX512

static inline unsigned count_at_most_avx512(const float *groups, float x)
{
    return (unsigned)_mm_popcnt_u32(
        _mm512_cmp_ps_mask(_mm512_load_ps(groups), _mm512_set1_ps(x), _CMP_LE_OQ));
}

static inline __m512i child_avx512(__m512i at, __mmask64 right)
{
    __m512i left = _mm512_add_epi8(at, at);
    return _mm512_mask_sub_epi8(left, right, left, _mm512_set1_epi8(-1));
}

#include "_simd_code_avx512.h"

#define PATH(name) name##_avx512
#define COUNT_AT_MOST count_at_most_avx512
#define CODE_WIDE code_wide_avx512
#define VECTOR __m512i
#define FLOATS __m512
#define MASK __mmask64
#define SHUFFLE_LOG 6
#define LOAD_TABLE(p) _mm512_load_si512(p)
#define SHUFFLE(table, at) _mm512_permutexvar_epi8(at, table)
#define LOAD(p) _mm512_load_si512(p)
#define SPLAT(byte) _mm512_set1_epi8(byte)
#define GREATER _mm512_cmpgt_epu8_mask
#define BLEND(mask, if_not, if_set) _mm512_mask_blend_epi8(mask, if_not, if_set)
#define CHILD child_avx512
#define UNPACK(half, bits) _mm512_unpack##half##_epi##bits
#define ADD(sum, bits) _mm512_add_ps(sum, _mm512_castsi512_ps(bits))
#define AND _mm512_and_si512
#define AND_EQUAL _mm512_mask_cmpeq_epi8_mask
#define BIT(a, i) _mm512_movepi8_mask(_mm512_slli_epi16(a, 7 - (i)))
#include "_simd_walk.h"

END_TARGET

#endif
