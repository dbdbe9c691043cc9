/* A vector of 32 rows as the wide walk needs it, with AVX2; included by _simd_paths.c.
 *
 * Each kind of vector has these types and functions, under names of its own:
 *     vector, floats          a vector of bytes; the same size in floats
 *     mask                    one decision per byte
 *     codes                   where a vector's codes are:
 *     codes_at(p, next)       at p, and those of the next VECTOR_ROWS rows at p + next
 *     load(codes, place)      a column, which is at that place in each array of codes
 *     load_table(p)           a table of 2^SHUFFLE_LOG bytes at p, and
 *     shuffle(table, at)      its byte at `at`, less than 128, modulo its size
 *     splat(byte), greater(a, b) (signed), blend(mask, if_not, if_set), both(a, b): bits of both
 *     child(at, right)        2 * at + right
 *     and_equal(mask, a, b), bit(a, i): the mask of bit i of each byte
 *     unpack_lo8 and the like interleave within 128-bit lanes
 *     add(floats, bytes)      the bytes are floats
 */

typedef __m256i vector_one_avx2, mask_one_avx2;
typedef __m256 floats_one_avx2;
typedef const int8_t *codes_one_avx2;

INLINE const int8_t *codes_at_one_avx2(const int8_t *codes, size_t next)
{
    (void)next;
    return codes;
}

INLINE __m256i load_one_avx2(const int8_t *codes, size_t place)
{
    return _mm256_load_si256((const __m256i *)(codes + place));
}

INLINE __m256i load_table_one_avx2(const uint8_t *table)
{
    return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)table));
}

INLINE __m256i splat_one_avx2(int8_t byte)
{
    return _mm256_set1_epi8(byte);
}

INLINE __m256i blend_one_avx2(__m256i mask, __m256i if_not, __m256i if_set)
{
    return _mm256_blendv_epi8(if_not, if_set, mask);
}

INLINE __m256i child_one_avx2(__m256i at, __m256i right)
{
    return _mm256_sub_epi8(_mm256_add_epi8(at, at), right);
}

INLINE __m256i and_equal_one_avx2(__m256i mask, __m256i a, __m256i b)
{
    return _mm256_and_si256(mask, _mm256_cmpeq_epi8(a, b));
}

/* Of a mask, blend looks at the highest bit only. */
INLINE __m256i bit_one_avx2(__m256i a, int i)
{
    return _mm256_slli_epi16(a, 7 - i);
}

INLINE __m256 add_one_avx2(__m256 sum, __m256i bits)
{
    return _mm256_add_ps(sum, _mm256_castsi256_ps(bits));
}

#define OF_TWO(name, intrinsic)                                                               \
    INLINE __m256i name##_one_avx2(__m256i a, __m256i b)                                      \
    {                                                                                         \
        return intrinsic(a, b);                                                               \
    }
OF_TWO(shuffle, _mm256_shuffle_epi8)
OF_TWO(greater, _mm256_cmpgt_epi8)
OF_TWO(both, _mm256_and_si256)
OF_TWO(unpack_lo8, _mm256_unpacklo_epi8)
OF_TWO(unpack_hi8, _mm256_unpackhi_epi8)
OF_TWO(unpack_lo16, _mm256_unpacklo_epi16)
OF_TWO(unpack_hi16, _mm256_unpackhi_epi16)
#undef OF_TWO
