/* Coding 64 rows at once, for the wide walk with AVX-512; included by _simd_paths.c.
 *
 * Sixteen features of all rows are transposed, so that a feature's values lie side by side. A cut's
 * thresholds are a tree of nodes without pointers, which registers hold: 16 values are searched for
 * at once, and a node is looked up by register permutes, of which the last level takes four. Codes
 * are those of code_cuts() in _simd_walk.h. The order of such a tree is Eytzinger's, of 1590; see
 * Khuong and Morin, "Array Layouts for Comparison-Based Searching", ACM JEA 22, 2017.
 */

enum { ROWS = 64, CHUNK = 16 };

/* Values as coding reads them: a feature's are side by side. */
struct values {
    _Alignas(CACHE_LINE) float of[CHUNK][ROWS];
};

/* Transposes 16 rows' values of 16 features, or of fewer: those in the mask. */
static inline void transpose_avx512(const char *const *row, size_t first, __mmask16 mask,
                                    struct values *values, size_t at)
{
    __m512 rows[16], pairs[16], fours[16];
    for (int i = 0; i < 16; i++)
        rows[i] = _mm512_maskz_loadu_ps(mask, row[i] + sizeof(float) * first);
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            __m512d low = _mm512_castps_pd(pairs[i + j]), high = _mm512_castps_pd(pairs[i + j + 2]);
            fours[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            fours[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    /* Lane k of fours[4 * q + j]: feature 4 * k + j of rows 4 * q to 4 * q + 3. */
    for (int j = 0; j < 4; j++) {
        __m512 even0 = _mm512_shuffle_f32x4(fours[j], fours[j + 4], 0x88);
        __m512 odd0 = _mm512_shuffle_f32x4(fours[j], fours[j + 4], 0xdd);
        __m512 even1 = _mm512_shuffle_f32x4(fours[j + 8], fours[j + 12], 0x88);
        __m512 odd1 = _mm512_shuffle_f32x4(fours[j + 8], fours[j + 12], 0xdd);
        _mm512_store_ps(&values->of[j][at], _mm512_shuffle_f32x4(even0, even1, 0x88));
        _mm512_store_ps(&values->of[j + 4][at], _mm512_shuffle_f32x4(odd0, odd1, 0x88));
        _mm512_store_ps(&values->of[j + 8][at], _mm512_shuffle_f32x4(even0, even1, 0xdd));
        _mm512_store_ps(&values->of[j + 12][at], _mm512_shuffle_f32x4(odd0, odd1, 0xdd));
    }
}

/* Reads the 16 features from `first` on. */
static void read_features_avx512(const struct forest *forest, const char *const *row, size_t rows,
                                 size_t first, struct values *values)
{
    const size_t features = forest->num_features - first;
    const __mmask16 mask = features < CHUNK ? (__mmask16)((1u << features) - 1) : 0xffff;
    for (size_t r = 0; r < rows; r += 16)
        transpose_avx512(row + r, first, mask, values, r);
    for (size_t i = 0; i < CHUNK && i < features; i++)
        if (forest->floored[first + i])
            for (size_t r = 0; r < rows; r++) values->of[i][r] = floorf(values->of[i][r]);
}

/* One of 2^n nodes for each of 16 values, by the last bits of `at`; 16 nodes to a register. */
INLINE __m512 node4(const __m512 *node, __m512i at)
{
    return _mm512_permutexvar_ps(at, node[0]);
}
INLINE __m512 node5(const __m512 *node, __m512i at)
{
    return _mm512_permutex2var_ps(node[0], at, node[1]);
}
INLINE __m512 node6(const __m512 *node, __m512i at)
{
    const __mmask16 right = _mm512_test_epi32_mask(at, _mm512_set1_epi32(1 << 5));
    return _mm512_mask_mov_ps(node5(node, at), right, node5(node + 2, at));
}
INLINE __m512 node7(const __m512 *node, __m512i at)
{
    const __mmask16 right = _mm512_test_epi32_mask(at, _mm512_set1_epi32(1 << 6));
    return _mm512_mask_mov_ps(node6(node, at), right, node6(node + 4, at));
}

/* Codes so many times 16 values, whose searches overlap. Columns of codes begin at the first. */
INLINE void code_values_avx512(const __m512 *node, const int levels, const float *x,
                               const int vectors, int8_t *left, int8_t *right)
{
    const __m512i one = _mm512_set1_epi32(1);
    /* A search ends at this and its count; codes are as signed_code(). */
    const __m512i none = _mm512_set1_epi32((1 << levels) + 128);
    __m512 values[ROWS / 16];
    __m512i at[ROWS / 16];
    for (int v = 0; v < vectors; v++) {
        values[v] = _mm512_load_ps(x + 16 * v);
        at[v] = one;
    }
    for (int level = 0; level < levels; level++)
        for (int v = 0; v < vectors; v++) {
            __m512 threshold = level < 4    ? node4(node, at[v])
                               : level == 4 ? node4(node + 1, at[v])
                               : level == 5 ? node5(node + 2, at[v])
                               : level == 6 ? node6(node + 4, at[v])
                                            : node7(node + 8, at[v]);
            __mmask16 passed = _mm512_cmp_ps_mask(threshold, values[v], _CMP_LE_OQ);
            at[v] = _mm512_add_epi32(at[v], at[v]);
            at[v] = _mm512_mask_add_epi32(at[v], passed, at[v], one);
        }
    for (int v = 0; v < vectors; v++) {
        __mmask16 missing = _mm512_cmp_ps_mask(values[v], values[v], _CMP_UNORD_Q);
        __m128i code = _mm512_cvtepi32_epi8(_mm512_sub_epi32(at[v], none));
        _mm_store_si128((__m128i *)(left + 16 * v), code);
        code = _mm_mask_mov_epi8(code, missing, _mm_set1_epi8(signed_code(255)));
        _mm_store_si128((__m128i *)(right + 16 * v), code);
    }
}

/* Codes a cut whose tree has so many levels: a constant, from 4 to MAX_LEVELS. */
INLINE void code_levels_avx512(const struct cut *cut, const float *x, size_t rows, int8_t *codes,
                               const int levels)
{
    __m512 node[(1 << MAX_LEVELS) / 16];
    int8_t *left = codes + ROWS * (size_t)cut->column_missing_left;
    int8_t *right = codes + ROWS * (size_t)cut->column_missing_right;
    for (int i = 0; i < (1 << levels) / 16; i++) node[i] = _mm512_load_ps(cut->tree + 16 * i);
    if (rows == ROWS)
        code_values_avx512(node, levels, x, ROWS / 16, left, right);
    else
        for (size_t r = 0; r < rows; r += 16)
            code_values_avx512(node, levels, x + r, 1, left + r, right + r);
}

static void code_cut_avx512(const struct cut *cut, const float *x, size_t rows, int8_t *codes)
{
    switch (cut->levels) {
    case 4: code_levels_avx512(cut, x, rows, codes, 4); break;
    case 5: code_levels_avx512(cut, x, rows, codes, 5); break;
    case 6: code_levels_avx512(cut, x, rows, codes, 6); break;
    case 7: code_levels_avx512(cut, x, rows, codes, 7); break;
    default: code_levels_avx512(cut, x, rows, codes, 8); break;
    }
}

static void code_rows_avx512(const struct forest *forest, const char *const *row, size_t count,
                             int8_t *codes)
{
    struct values values;
    const char *rows[ROWS];
    size_t chunk = SIZE_MAX, padded = (count + 15) / 16 * 16;
    for (size_t r = 0; r < padded; r++) rows[r] = row[r < count ? r : 0];
    for (size_t i = 0; i < forest->num_cuts; i++) {
        const struct cut *cut = forest->cuts + i;
        if (cut->feature / CHUNK != chunk) {
            chunk = cut->feature / CHUNK;
            read_features_avx512(forest, rows, padded, CHUNK * chunk, &values);
        }
        code_cut_avx512(cut, values.of[cut->feature % CHUNK], padded, codes);
    }
}
