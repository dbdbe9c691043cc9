/* Coding 32 rows at once, for the wide walk with AVX2; included by _simd_paths.c.
 *
 * Eight features of all rows are transposed, so that a feature's values lie side by side. Eight
 * values at a time are then searched for among a cut's 15 splitters, in four steps. The first two
 * choose among three splitters; those of the other two are tables in registers. That leads each
 * value to 16 thresholds, which it is compared with. Codes are those of code_cuts() in
 * _simd_walk.h.
 */

enum { ROWS_AVX2 = 32, CHUNK_AVX2 = 8 };

/* Values as coding reads them: a feature's are side by side. */
struct values_avx2 {
    _Alignas(CACHE_LINE) float of[CHUNK_AVX2][ROWS_AVX2];
};

/* Transposes 8 rows' values of 8 features, or of fewer: those in the mask. */
static inline void transpose_avx2(const char *const *row, size_t first, __m256i mask,
                                  struct values_avx2 *values, size_t at)
{
    __m256 rows[8], pairs[8], fours[8];
    for (int i = 0; i < 8; i++) {
        const char *from = row[i] + sizeof(float) * first;
        rows[i] = _mm256_maskload_ps((const float *)from, mask);
        _mm_prefetch(from + CACHE_LINE, _MM_HINT_T0); /* what the next chunks read */
    }
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            __m256d low = _mm256_castps_pd(pairs[i + j]), high = _mm256_castps_pd(pairs[i + j + 2]);
            fours[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
            fours[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
        }
    /* Half k of fours[4 * q + j]: feature 4 * k + j of rows 4 * q to 4 * q + 3. */
    for (int j = 0; j < 4; j++) {
        __m256 low = _mm256_permute2f128_ps(fours[j], fours[j + 4], 0x20);
        __m256 high = _mm256_permute2f128_ps(fours[j], fours[j + 4], 0x31);
        _mm256_store_ps(&values->of[j][at], low);
        _mm256_store_ps(&values->of[j + 4][at], high);
    }
}

/* Reads the 8 features from `first` on. */
static void read_features_avx2(const struct forest *forest, const char *const *row, size_t rows,
                               size_t first, struct values_avx2 *values)
{
    const size_t left = forest->num_features - first;
    const size_t features = left < CHUNK_AVX2 ? left : CHUNK_AVX2;
    const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)features),
                                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    for (size_t r = 0; r < rows; r += 8) transpose_avx2(row + r, first, mask, values, r);
    for (size_t i = 0; i < features; i++)
        if (forest->floored[first + i])
            for (size_t r = 0; r < rows; r++) values->of[i][r] = floorf(values->of[i][r]);
}

/* -1 where the splitter is at or below the value, else 0. */
static inline __m256i passed_avx2(__m256 splitter, __m256 value)
{
    return _mm256_castps_si256(_mm256_cmp_ps(splitter, value, _CMP_LE_OQ));
}

/* A count in eight parts: of 16 thresholds, those at or below x; negative. */
static inline __m256i parts_avx2(const float *thresholds, float x)
{
    const __m256 xs = _mm256_set1_ps(x);
    __m256 low = _mm256_cmp_ps(xs, _mm256_load_ps(thresholds), _CMP_GE_OQ);
    __m256 high = _mm256_cmp_ps(xs, _mm256_load_ps(thresholds + 8), _CMP_GE_OQ);
    return _mm256_add_epi32(_mm256_castps_si256(low), _mm256_castps_si256(high));
}

/* Counts for 8 values how many of 16 thresholds are at or below; each begins at its own place. */
static inline __m256i count_avx2(const float *thresholds, const uint32_t *begin, const float *x)
{
    __m256i fours[2];
    for (int i = 0; i < 2; i++, begin += 4, x += 4) {
        __m256i low = _mm256_packs_epi32(parts_avx2(thresholds + begin[0], x[0]),
                                         parts_avx2(thresholds + begin[1], x[1]));
        __m256i high = _mm256_packs_epi32(parts_avx2(thresholds + begin[2], x[2]),
                                          parts_avx2(thresholds + begin[3], x[3]));
        fours[i] = _mm256_packs_epi16(low, high); /* four parts of each value in either half */
    }
    __m256i low = _mm256_permute2x128_si256(fours[0], fours[1], 0x20);
    __m256i high = _mm256_permute2x128_si256(fours[0], fours[1], 0x31);
    __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_add_epi8(low, high));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(-1));
}

/* Finds for each value the 16 thresholds among which its code is decided. */
static inline void search_avx2(const float *splitters, const float *x, size_t rows,
                               uint32_t *begin)
{
    const __m256 middle = _mm256_set1_ps(splitters[7]);
    const __m256 lower = _mm256_set1_ps(splitters[3]), upper = _mm256_set1_ps(splitters[11]);
    const __m256 front = _mm256_load_ps(splitters), back = _mm256_load_ps(splitters + 8);
    /* Splitters 1, 5, 9 and 13, in both halves; and 0, 2, 4 to 14. */
    const __m256i four = _mm256_setr_epi32(0, 4, 2, 6, 0, 4, 2, 6);
    const __m256i eight = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
    const __m256 third = _mm256_permutevar8x32_ps(_mm256_shuffle_ps(front, back, 0xdd), four);
    const __m256 fourth = _mm256_permutevar8x32_ps(_mm256_shuffle_ps(front, back, 0x88), eight);
    for (size_t r = 0; r < rows; r += 8) {
        const __m256 values = _mm256_load_ps(x + r);
        __m256i first = passed_avx2(middle, values);
        __m256i second =
            passed_avx2(_mm256_blendv_ps(lower, upper, _mm256_castsi256_ps(first)), values);
        __m256i group = _mm256_or_si256(_mm256_and_si256(first, _mm256_set1_epi32(2)),
                                        _mm256_and_si256(second, _mm256_set1_epi32(1)));
        __m256i passed = passed_avx2(_mm256_permutevar_ps(third, group), values);
        group = _mm256_sub_epi32(_mm256_add_epi32(group, group), passed);
        passed = passed_avx2(_mm256_permutevar8x32_ps(fourth, group), values);
        group = _mm256_sub_epi32(_mm256_add_epi32(group, group), passed);
        _mm256_store_si256((__m256i *)(begin + r), _mm256_slli_epi32(group, 4));
    }
}

/* -1 where a value is missing, else 0. */
static inline __m256i missing_avx2(const float *x)
{
    const __m256 values = _mm256_load_ps(x);
    return _mm256_castps_si256(_mm256_cmp_ps(values, values, _CMP_UNORD_Q));
}

static inline void code_cut_avx2(const struct cut *cut, const float *x, size_t rows,
                                 int8_t *codes)
{
    const float *thresholds = cut->table + 16;
    int8_t *column_left = codes + (size_t)ROWS_AVX2 * cut->column_missing_left;
    int8_t *column_right = codes + (size_t)ROWS_AVX2 * cut->column_missing_right;
    _Alignas(CACHE_LINE) uint32_t begin[ROWS_AVX2];
    search_avx2(cut->table, x, rows, begin);
    for (size_t r = 0; r < rows; r += 16) {
        const __m256i *before = (const __m256i *)(begin + r);
        __m256i place = _mm256_packs_epi32(before[0], before[1]);
        __m256i count = _mm256_packs_epi32(count_avx2(thresholds, begin + r, x + r),
                                           count_avx2(thresholds, begin + r + 8, x + r + 8));
        __m256i missing = _mm256_packs_epi32(missing_avx2(x + r), missing_avx2(x + r + 8));
        /* Rows 0 to 3 and 8 to 11, and 255 where they are missing; then 4 to 7 and 12 to 15. */
        __m256i bytes = _mm256_packus_epi16(_mm256_add_epi16(place, count),
                                            _mm256_srli_epi16(missing, 8));
        const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        bytes = _mm256_permutevar8x32_epi32(bytes, in_order);
        __m128i left = _mm256_castsi256_si128(bytes);
        __m128i right = _mm_or_si128(left, _mm256_extracti128_si256(bytes, 1));
        const __m128i sign = _mm_set1_epi8(-128); /* as signed_code() */
        _mm_store_si128((__m128i *)(column_left + r), _mm_xor_si128(left, sign));
        _mm_store_si128((__m128i *)(column_right + r), _mm_xor_si128(right, sign));
    }
}

static void code_rows_avx2(const struct forest *forest, const char *const *row, size_t count,
                           int8_t *codes)
{
    struct values_avx2 values;
    const char *rows[ROWS_AVX2];
    size_t chunk = SIZE_MAX, padded = (count + 15) / 16 * 16;
    for (size_t r = 0; r < padded; r++) rows[r] = row[r < count ? r : 0];
    for (size_t i = 0; i < forest->num_cuts; i++) {
        const struct cut *cut = forest->cuts + i;
        if (cut->feature / CHUNK_AVX2 != chunk) {
            chunk = cut->feature / CHUNK_AVX2;
            read_features_avx2(forest, rows, padded, CHUNK_AVX2 * chunk, &values);
        }
        code_cut_avx2(cut, values.of[cut->feature % CHUNK_AVX2], padded, codes);
    }
}
