/* A vector of 64 rows with AVX-512, as _simd_vector_avx2.h describes it; included by _simd_paths.c. */

typedef __m512i vector_one_avx512;
typedef __m512 floats_one_avx512;
typedef __mmask64 mask_one_avx512;
typedef const int8_t *codes_one_avx512;

INLINE const int8_t *codes_at_one_avx512(const int8_t *codes, size_t next)
{
    (void)next;
    return codes;
}

INLINE __m512i load_one_avx512(const int8_t *codes, size_t place)
{
    return _mm512_load_si512(codes + place);
}

INLINE __m512i load_table_one_avx512(const uint8_t *table)
{
    return _mm512_load_si512(table);
}

INLINE __m512i shuffle_one_avx512(__m512i table, __m512i at)
{
    return _mm512_permutexvar_epi8(at, table);
}

INLINE __m512i splat_one_avx512(int8_t byte)
{
    return _mm512_set1_epi8(byte);
}

INLINE __mmask64 greater_one_avx512(__m512i a, __m512i b)
{
    return _mm512_cmpgt_epi8_mask(a, b);
}

INLINE __m512i blend_one_avx512(__mmask64 mask, __m512i if_not, __m512i if_set)
{
    return _mm512_mask_blend_epi8(mask, if_not, if_set);
}

INLINE __m512i child_one_avx512(__m512i at, __mmask64 right)
{
    __m512i left = _mm512_add_epi8(at, at);
    return _mm512_mask_sub_epi8(left, right, left, _mm512_set1_epi8(-1));
}

INLINE __mmask64 and_equal_one_avx512(__mmask64 mask, __m512i a, __m512i b)
{
    return _mm512_mask_cmpeq_epi8_mask(mask, a, b);
}

INLINE __mmask64 bit_one_avx512(__m512i a, int i)
{
    return _mm512_movepi8_mask(_mm512_slli_epi16(a, 7 - i));
}

INLINE __m512 add_one_avx512(__m512 sum, __m512i bits)
{
    return _mm512_add_ps(sum, _mm512_castsi512_ps(bits));
}

#define OF_TWO(name, intrinsic)                                                               \
    INLINE __m512i name##_one_avx512(__m512i a, __m512i b)                                    \
    {                                                                                         \
        return intrinsic(a, b);                                                               \
    }
OF_TWO(both, _mm512_and_si512)
OF_TWO(unpack_lo8, _mm512_unpacklo_epi8)
OF_TWO(unpack_hi8, _mm512_unpackhi_epi8)
OF_TWO(unpack_lo16, _mm512_unpacklo_epi16)
OF_TWO(unpack_hi16, _mm512_unpackhi_epi16)
#undef OF_TWO
