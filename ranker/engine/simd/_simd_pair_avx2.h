/* What the wide walk does with vectors of AVX2, one at a time or a pair; included by _simd_paths.c.
 *
 * A pair is 64 rows. What is read of a tree serves both of its vectors, and reading is what
 * bounds the wide walk. Their codes are two arrays, so that a column is at one place in both.
 */

INLINE __m256i load_table_avx2(const uint8_t *table)
{
    return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)table));
}

INLINE __m256i blend_avx2(__m256i mask, __m256i if_not, __m256i if_set)
{
    return _mm256_blendv_epi8(if_not, if_set, mask);
}

INLINE __m256i child_avx2(__m256i at, __m256i right)
{
    return _mm256_sub_epi8(_mm256_add_epi8(at, at), right);
}

INLINE __m256i and_equal_avx2(__m256i mask, __m256i a, __m256i b)
{
    return _mm256_and_si256(mask, _mm256_cmpeq_epi8(a, b));
}

/* A mask of bit i of each byte: blend_avx2() looks at the highest bit only. */
INLINE __m256i bit_avx2(__m256i a, int i)
{
    return _mm256_slli_epi16(a, 7 - i);
}

INLINE __m256 add_avx2(__m256 sum, __m256i bits)
{
    return _mm256_add_ps(sum, _mm256_castsi256_ps(bits));
}

struct pair {
    __m256i first, second;
};

struct pair_of_floats {
    __m256 first, second;
};

struct codes_of_pair {
    const int8_t *first, *second;
};

INLINE struct pair load_pair(struct codes_of_pair codes, size_t place)
{
    return (struct pair){_mm256_load_si256((const __m256i *)(codes.first + place)),
                         _mm256_load_si256((const __m256i *)(codes.second + place))};
}

INLINE struct pair load_table_pair(const uint8_t *table)
{
    const __m256i both = load_table_avx2(table);
    return (struct pair){both, both};
}

INLINE struct pair splat_pair(int8_t byte)
{
    const __m256i both = _mm256_set1_epi8(byte);
    return (struct pair){both, both};
}

INLINE struct pair blend_pair(struct pair mask, struct pair if_not, struct pair if_set)
{
    return (struct pair){blend_avx2(mask.first, if_not.first, if_set.first),
                         blend_avx2(mask.second, if_not.second, if_set.second)};
}

INLINE struct pair and_equal_pair(struct pair mask, struct pair a, struct pair b)
{
    return (struct pair){and_equal_avx2(mask.first, a.first, b.first),
                         and_equal_avx2(mask.second, a.second, b.second)};
}

INLINE struct pair bit_pair(struct pair a, int i)
{
    return (struct pair){bit_avx2(a.first, i), bit_avx2(a.second, i)};
}

INLINE struct pair_of_floats add_pair(struct pair_of_floats sum, struct pair bits)
{
    return (struct pair_of_floats){add_avx2(sum.first, bits.first),
                                   add_avx2(sum.second, bits.second)};
}

#define OF_PAIRS(name, of_vectors)                                                            \
    INLINE struct pair name(struct pair a, struct pair b)                                     \
    {                                                                                         \
        return (struct pair){of_vectors(a.first, b.first), of_vectors(a.second, b.second)};   \
    }
OF_PAIRS(shuffle_pair, _mm256_shuffle_epi8)
OF_PAIRS(greater_pair, _mm256_cmpgt_epi8)
OF_PAIRS(child_pair, child_avx2)
OF_PAIRS(and_pair, _mm256_and_si256)
OF_PAIRS(unpacklo8_pair, _mm256_unpacklo_epi8)
OF_PAIRS(unpackhi8_pair, _mm256_unpackhi_epi8)
OF_PAIRS(unpacklo16_pair, _mm256_unpacklo_epi16)
OF_PAIRS(unpackhi16_pair, _mm256_unpackhi_epi16)
#undef OF_PAIRS
