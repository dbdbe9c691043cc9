/* Coding 64 rows at once, for the wide walk with AVX-512; included by _simd_paths.c.
 *
 * Sixteen features of all rows are transposed, so that a feature's values lie side by side. Each
 * cut's splitters are a table in a register, or those of two cuts of one feature in two: 16 values
 * are searched for at once, in five steps. That leads each to 16 thresholds, which it is compared
 * with. Codes are those of code_cuts() in _simd_walk.h.
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

/* Codes a cut, or two of one feature. Returns how many. */
static inline size_t code_some_avx512(const struct cut *cut, size_t cuts, const float *x,
                                      size_t rows, int8_t *codes)
{
    const int two = cuts > 1 && cut[1].feature == cut->feature && cut->size == MAX_CUT;
    const __m512i sixteen = _mm512_set1_epi32(16), one = _mm512_set1_epi32(1);
    __m512 splitters = _mm512_load_ps(cut->table), more = _mm512_set1_ps(NAN);
    if (two) {
        __m512 last = _mm512_set1_ps(cut->table[16 + MAX_CUT - 1]);
        splitters = _mm512_mask_mov_ps(splitters, 1 << 15, last);
        more = _mm512_load_ps(cut[1].table);
    }
    __m512i before[ROWS / 16];
    _Alignas(CACHE_LINE) uint64_t begin[ROWS / 4]; /* four of 16 bits each: loads are what counts */
    _Alignas(CACHE_LINE) uint16_t at_most[ROWS]; /* a bit each; thresholds ascend */
    for (size_t r = 0; r < rows; r += 16) {
        const __m512 values = _mm512_load_ps(x + r);
        __m512i group = _mm512_setzero_si512();
        for (int step = 16; step > 0; step /= 2) {
            __m512i at = _mm512_add_epi32(group, _mm512_set1_epi32(step - 1));
            __m512 splitter = _mm512_permutex2var_ps(splitters, at, more);
            __mmask16 passed = _mm512_cmp_ps_mask(splitter, values, _CMP_LE_OQ);
            group = _mm512_mask_add_epi32(group, passed, group, _mm512_set1_epi32(step));
        }
        before[r / 16] = _mm512_slli_epi32(group, 4);
        /* The second cut's own splitters lie between. */
        __mmask16 second = _mm512_cmpge_epi32_mask(group, sixteen);
        __m512i from = _mm512_mask_add_epi32(before[r / 16], second, before[r / 16], sixteen);
        _mm256_store_si256((__m256i *)(begin + r / 4), _mm512_cvtepi32_epi16(from));
    }
    const float *thresholds = cut->table + 16;
    for (size_t r = 0; r < rows; r += 4) {
        const uint64_t from = begin[r / 4];
        const size_t at[4] = {from & 0xffff, from >> 16 & 0xffff, from >> 32 & 0xffff, from >> 48};
        for (size_t i = 0; i < 4; i++)
            _store_mask16(&at_most[r + i],
                          _mm512_cmp_ps_mask(_mm512_load_ps(thresholds + at[i]),
                                             _mm512_set1_ps(x[r + i]), _CMP_LE_OQ));
    }
    for (size_t r = 0; r < rows; r += 16) {
        __m512i bits = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(at_most + r)));
        __m512i zeros = _mm512_lzcnt_epi32(_mm512_add_epi32(bits, one));
        __m512i count = _mm512_sub_epi32(_mm512_set1_epi32(31), zeros);
        __m512i place = _mm512_add_epi32(before[r / 16], count);
        const __m512 values = _mm512_load_ps(x + r);
        const __mmask16 missing = _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q);
        __m128i left[2] = {_mm512_cvtusepi32_epi8(place)};
        if (two) {
            __mmask16 second = _mm512_cmpge_epi32_mask(place, _mm512_set1_epi32(256));
            left[1] = _mm512_cvtepi32_epi8(_mm512_maskz_mov_epi32(second, place));
        }
        for (int i = 0; i <= two; i++) {
            int8_t *column_left = codes + ROWS * cut[i].column_missing_left;
            int8_t *column_right = codes + ROWS * cut[i].column_missing_right;
            __m128i right = _mm_mask_mov_epi8(left[i], missing, _mm_set1_epi8(-1));
            const __m128i sign = _mm_set1_epi8(-128); /* as signed_code() */
            _mm_store_si128((__m128i *)(column_left + r), _mm_xor_si128(left[i], sign));
            _mm_store_si128((__m128i *)(column_right + r), _mm_xor_si128(right, sign));
        }
    }
    return two ? 2 : 1;
}

static void code_rows_avx512(const struct forest *forest, const char *const *row, size_t count,
                             int8_t *codes)
{
    struct values values;
    const char *rows[ROWS];
    size_t chunk = SIZE_MAX, padded = (count + 15) / 16 * 16;
    for (size_t r = 0; r < padded; r++) rows[r] = row[r < count ? r : 0];
    for (size_t i = 0; i < forest->num_cuts;) {
        const struct cut *cut = forest->cuts + i;
        if (cut->feature / CHUNK != chunk) {
            chunk = cut->feature / CHUNK;
            read_features_avx512(forest, rows, padded, CHUNK * chunk, &values);
        }
        i += code_some_avx512(cut, forest->num_cuts - i, values.of[cut->feature % CHUNK], padded,
                              codes);
    }
}
