/* A pair of vectors as one; a template, included once per instruction set by _simd_paths.c.
 *
 * What is read of a tree serves both vectors of a pair, and reading is what bounds the wide walk.
 * Their codes are two arrays, so that a column is at one place in both.
 *
 * The includer defines, and they are undefined again at the end,
 *     ONE(name)       the name's variant for one vector, see _simd_vector_avx2.h
 *     PAIR(name)      and for a pair
 */

typedef struct {
    ONE(vector) first, second;
} PAIR(vector);

typedef struct {
    ONE(floats) first, second;
} PAIR(floats);

typedef struct {
    ONE(mask) first, second;
} PAIR(mask);

typedef struct {
    const int8_t *first, *second;
} PAIR(codes);

INLINE PAIR(codes) PAIR(codes_at)(const int8_t *codes, size_t next)
{
    return (PAIR(codes)){codes, codes + next};
}

INLINE PAIR(vector) PAIR(load)(PAIR(codes) codes, size_t place)
{
    return (PAIR(vector)){ONE(load)(codes.first, place), ONE(load)(codes.second, place)};
}

INLINE PAIR(vector) PAIR(load_table)(const uint8_t *table)
{
    const ONE(vector) both = ONE(load_table)(table);
    return (PAIR(vector)){both, both};
}

INLINE PAIR(vector) PAIR(splat)(int8_t byte)
{
    const ONE(vector) both = ONE(splat)(byte);
    return (PAIR(vector)){both, both};
}

INLINE PAIR(vector) PAIR(blend)(PAIR(mask) mask, PAIR(vector) if_not, PAIR(vector) if_set)
{
    return (PAIR(vector)){ONE(blend)(mask.first, if_not.first, if_set.first),
                          ONE(blend)(mask.second, if_not.second, if_set.second)};
}

INLINE PAIR(mask) PAIR(and_equal)(PAIR(mask) mask, PAIR(vector) a, PAIR(vector) b)
{
    return (PAIR(mask)){ONE(and_equal)(mask.first, a.first, b.first),
                        ONE(and_equal)(mask.second, a.second, b.second)};
}

INLINE PAIR(mask) PAIR(bit)(PAIR(vector) a, int i)
{
    return (PAIR(mask)){ONE(bit)(a.first, i), ONE(bit)(a.second, i)};
}

#define OF_TWO(name, type, type_a, type_b)                                                    \
    INLINE PAIR(type) PAIR(name)(PAIR(type_a) a, PAIR(type_b) b)                              \
    {                                                                                         \
        return (PAIR(type)){ONE(name)(a.first, b.first), ONE(name)(a.second, b.second)};      \
    }
OF_TWO(add, floats, floats, vector)
OF_TWO(greater, mask, vector, vector)
OF_TWO(child, vector, vector, mask)
OF_TWO(shuffle, vector, vector, vector)
OF_TWO(both, vector, vector, vector)
OF_TWO(unpack_lo8, vector, vector, vector)
OF_TWO(unpack_hi8, vector, vector, vector)
OF_TWO(unpack_lo16, vector, vector, vector)
OF_TWO(unpack_hi16, vector, vector, vector)
#undef OF_TWO
#undef ONE
#undef PAIR
