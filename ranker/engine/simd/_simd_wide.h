/* The wide walk; a template, included once per kind of vector by _simd_paths.c.
 *
 * It does what _simd_walk.h says that both walks do, for as many rows as a vector has bytes.
 * `threshold_code[at]` is a byte shuffle, as a whole level's codes fit in a register or a few.
 * `code(row, column[at])` would be a gather from as many columns as rows; instead every column
 * of the level is read, and the one that a row needs is selected by the decisions already made,
 * as a multiplexer does:
 *
 *     level 2, nodes 4 5 6 7:   even = right[0] ? code(column[6]) : code(column[4])
 *                               odd  = right[0] ? code(column[7]) : code(column[5])
 *                               code = right[1] ? odd : even
 *
 * A tile of n exits thus costs n loads and about n blends for a vector of rows. Selecting by
 * the oldest decision first leaves only one blend to wait for the newest. The exits' values
 * are looked up like the threshold codes, one plane of bytes after the other. Below a tile,
 * all the tree's nodes are evaluated, a level at a time, on the rows' places:
 *
 *     place = at - 2^depth
 *     for each step of each level:
 *         if place == step.from and code(row, step.column) > step.code:  place = step.to
 *     value = places[place]
 *
 * A vector may be a pair of the processor's, so that what is read of a tree serves both. A
 * block is coded VECTOR_ROWS rows at a time; the codes of the next rows follow, as an array
 * of their own.
 *
 * The includer defines VECTOR_ROWS, see _simd_walk.h, and, undefined again at the end,
 *     WIDE(name)      the name's variant for this kind of vector
 *     CODE_ROWS       code_cuts(), but for VECTOR_ROWS rows
 *     SHUFFLE_LOG     log2 of the size of a table that WIDE(shuffle) takes
 * What a vector is and can do is said in _simd_vector_avx2.h.
 */

#define VECTOR WIDE(vector)
#define FLOATS WIDE(floats)
#define MASK WIDE(mask)
#define CODES WIDE(codes)

enum { WIDE(WIDTH) = sizeof(VECTOR) };

/* Where in the codes a column is. */
INLINE size_t WIDE(column_at)(uint32_t offset)
{
    return VECTOR_ROWS / COLUMN_UNIT * (size_t)offset;
}

/* A multiplexer of 2^n inputs, `distance` apart on the newest of its n decisions. */
#define MULTIPLEXER(name, n, less, type, input)                                               \
    INLINE VECTOR WIDE(name##n)(type, size_t distance, const MASK *right)                     \
    {                                                                                         \
        VECTOR if_left = WIDE(name##less)(input(0), 2 * distance, right);                     \
        VECTOR if_right = WIDE(name##less)(input(distance), 2 * distance, right);             \
        return WIDE(blend)(right[n - 1], if_left, if_right);                                  \
    }

/* Of a level's columns, the one that each row's decisions so far lead to. */
#define COLUMNS CODES codes, const uint32_t *offset
#define COLUMNS_FROM(j) codes, offset + (j)
INLINE VECTOR WIDE(column0)(COLUMNS, size_t distance, const MASK *right)
{
    (void)distance, (void)right;
    return WIDE(load)(codes, WIDE(column_at)(*offset));
}
MULTIPLEXER(column, 1, 0, COLUMNS, COLUMNS_FROM)
MULTIPLEXER(column, 2, 1, COLUMNS, COLUMNS_FROM)
MULTIPLEXER(column, 3, 2, COLUMNS, COLUMNS_FROM)
MULTIPLEXER(column, 4, 3, COLUMNS, COLUMNS_FROM)
MULTIPLEXER(column, 5, 4, COLUMNS, COLUMNS_FROM)
MULTIPLEXER(column, 6, 5, COLUMNS, COLUMNS_FROM)
MULTIPLEXER(column, 7, 6, COLUMNS, COLUMNS_FROM)

/* Of a table's bytes, the one at each row's node; a register's worth per input. */
#define TABLE const uint8_t *table, VECTOR at
#define TABLE_FROM(j) table + (j), at
INLINE VECTOR WIDE(table0)(TABLE, size_t distance, const MASK *right)
{
    (void)distance, (void)right;
    return WIDE(shuffle)(WIDE(load_table)(table), at);
}
MULTIPLEXER(table, 1, 0, TABLE, TABLE_FROM)
MULTIPLEXER(table, 2, 1, TABLE, TABLE_FROM)
MULTIPLEXER(table, 3, 2, TABLE, TABLE_FROM)
MULTIPLEXER(table, 4, 3, TABLE, TABLE_FROM)

/* Looks up one of the 2^level bytes of a tile's level, which stand at 2^level modulo 64. */
INLINE VECTOR WIDE(look_up)(const uint8_t *table, VECTOR at, const MASK *right, const int level)
{
    const size_t size = (size_t)1 << SHUFFLE_LOG;
    if (level >= SHUFFLE_LOG && level < 6) table += (size_t)1 << level;
    if (level > 6) at = WIDE(both)(at, WIDE(splat)((1 << SHUFFLE_LOG) - 1));
    switch (level - SHUFFLE_LOG) {
    case 1: return WIDE(table1)(table, at, size, right);
    case 2: return WIDE(table2)(table, at, size, right);
    case 3: return WIDE(table3)(table, at, size, right);
    case 4: return WIDE(table4)(table, at, size, right);
    default: return WIDE(table0)(table, at, size, right);
    }
}

INLINE VECTOR WIDE(select_column)(CODES codes, const uint32_t *offset, const MASK *right,
                                  const int level)
{
    switch (level) {
    case 0: return WIDE(column0)(codes, offset, 1, right);
    case 1: return WIDE(column1)(codes, offset, 1, right);
    case 2: return WIDE(column2)(codes, offset, 1, right);
    case 3: return WIDE(column3)(codes, offset, 1, right);
    case 4: return WIDE(column4)(codes, offset, 1, right);
    case 5: return WIDE(column5)(codes, offset, 1, right);
    case 6: return WIDE(column6)(codes, offset, 1, right);
    default: return WIDE(column7)(codes, offset, 1, right);
    }
}

INLINE VECTOR WIDE(descend)(const struct tile *tile, CODES codes, VECTOR at, MASK *right,
                            const int level)
{
    const uint32_t *offset = tile->offset + ((size_t)1 << level);
    const uint8_t *thresholds = (const uint8_t *)tile->code;
    if (level >= 6) thresholds += (size_t)1 << level;
    VECTOR column = WIDE(select_column)(codes, offset, right, level);
    right[level] = WIDE(greater)(column, WIDE(look_up)(thresholds, at, right, level));
    return WIDE(child)(at, right[level]);
}

/* Adds values to the sums; 2^bits values in four byte planes, one for each row's `at`. The
 * sums are 4 vectors in the order in which UNPACK leaves them, see place(). */
INLINE void WIDE(add_values)(const uint8_t *plane, VECTOR at, const MASK *right, FLOATS *sum,
                             const int bits)
{
    const size_t size = plane_size(bits);
    VECTOR byte0 = WIDE(look_up)(plane, at, right, bits);
    VECTOR byte1 = WIDE(look_up)(plane + size, at, right, bits);
    VECTOR byte2 = WIDE(look_up)(plane + 2 * size, at, right, bits);
    VECTOR byte3 = WIDE(look_up)(plane + 3 * size, at, right, bits);
    VECTOR low01 = WIDE(unpack_lo8)(byte0, byte1), high01 = WIDE(unpack_hi8)(byte0, byte1);
    VECTOR low23 = WIDE(unpack_lo8)(byte2, byte3), high23 = WIDE(unpack_hi8)(byte2, byte3);
    sum[0] = WIDE(add)(sum[0], WIDE(unpack_lo16)(low01, low23));
    sum[1] = WIDE(add)(sum[1], WIDE(unpack_hi16)(low01, low23));
    sum[2] = WIDE(add)(sum[2], WIDE(unpack_lo16)(high01, high23));
    sum[3] = WIDE(add)(sum[3], WIDE(unpack_hi16)(high01, high23));
}

/* Where add_values() puts a row among its 4 vectors of floats. */
INLINE size_t WIDE(place)(size_t row)
{
    size_t lane = row / 16, vector = row / 4 % 4, element = row % 4;
    return WIDE(WIDTH) / 4 * vector + 4 * lane + element;
}

/* Moves rows from the exits of a tile to their leaves' places. */
INLINE VECTOR WIDE(take_steps)(const struct forest *forest, size_t tree, CODES codes, VECTOR at)
{
    uint32_t level = tree == 0 ? 0 : forest->tree_levels[tree - 1];
    uint32_t i = level == 0 ? 0 : forest->level_end[level - 1];
    for (; level < forest->tree_levels[tree]; level++) {
        const VECTOR from = at; /* so that a level's steps don't wait for each other */
        for (; i < forest->level_end[level]; i++) {
            const struct step step = forest->steps[i];
            VECTOR column = WIDE(load)(codes, WIDE(column_at)(step.offset));
            MASK right = WIDE(greater)(column, WIDE(splat)(step.code));
            MASK moves = WIDE(and_equal)(right, from, WIDE(splat)((int8_t)step.from));
            at = WIDE(blend)(moves, at, WIDE(splat)((int8_t)step.to));
        }
    }
    return at;
}

INLINE void WIDE(add_steps)(const struct forest *forest, size_t tree, CODES codes, VECTOR at,
                            FLOATS *sum, const int bits)
{
    MASK bit[8];
    at = WIDE(take_steps)(forest, tree, codes, at);
    for (int i = 0; i < bits; i++) bit[i] = WIDE(bit)(at, bits - 1 - i);
    WIDE(add_values)(forest->places + tree * 4 * plane_size(bits), at, bit, sum, bits);
}

INLINE void WIDE(wide_trees)(const struct forest *forest, const int8_t *all, FLOATS *sum,
                             const int depth)
{
    CODES codes = WIDE(codes_at)(all, VECTOR_ROWS * (size_t)forest->num_columns);
    for (size_t tree = 0; tree < forest->num_trees; tree++) {
        const struct tile tile = tile_at(forest->tiles, tree, depth);
        MASK right[MAX_DEPTH];
        VECTOR at = WIDE(splat)(1);
        if (depth > 0) at = WIDE(descend)(&tile, codes, at, right, 0);
        if (depth > 1) at = WIDE(descend)(&tile, codes, at, right, 1);
        if (depth > 2) at = WIDE(descend)(&tile, codes, at, right, 2);
        if (depth > 3) at = WIDE(descend)(&tile, codes, at, right, 3);
        if (depth > 4) at = WIDE(descend)(&tile, codes, at, right, 4);
        if (depth > 5) at = WIDE(descend)(&tile, codes, at, right, 5);
        if (depth > 6) at = WIDE(descend)(&tile, codes, at, right, 6);
        if (depth > 7) at = WIDE(descend)(&tile, codes, at, right, 7);
        if (forest->place_bits == 0) {
            WIDE(add_values)(tile.plane, at, right, sum, depth);
            continue;
        }
        at = WIDE(both)(at, WIDE(splat)((int8_t)((1 << depth) - 1)));
        switch (forest->place_bits) {
        case 6: WIDE(add_steps)(forest, tree, codes, at, sum, 6); break;
        case 7: WIDE(add_steps)(forest, tree, codes, at, sum, 7); break;
        case 8: WIDE(add_steps)(forest, tree, codes, at, sum, 8); break;
        }
    }
}

static void WIDE(wide_block)(const struct forest *forest, const char *const *row, size_t count,
                             int8_t *codes, float *scores)
{
    for (size_t r = 0; r < count; r += VECTOR_ROWS) {
        const size_t rows = count - r < VECTOR_ROWS ? count - r : VECTOR_ROWS;
        int8_t *to = codes + r * forest->num_columns;
        CODE_ROWS(forest, row + r, rows, to);
        code_sets(forest, row + r, rows, VECTOR_ROWS, to);
    }
    FLOATS sum[4];
    memset(sum, 0, sizeof sum);
    switch (forest->depth) {
    case 0: WIDE(wide_trees)(forest, codes, sum, 0); break;
    case 1: WIDE(wide_trees)(forest, codes, sum, 1); break;
    case 2: WIDE(wide_trees)(forest, codes, sum, 2); break;
    case 3: WIDE(wide_trees)(forest, codes, sum, 3); break;
    case 4: WIDE(wide_trees)(forest, codes, sum, 4); break;
    case 5: WIDE(wide_trees)(forest, codes, sum, 5); break;
    case 6: WIDE(wide_trees)(forest, codes, sum, 6); break;
    case 7: WIDE(wide_trees)(forest, codes, sum, 7); break;
    case 8: WIDE(wide_trees)(forest, codes, sum, 8); break;
    }
    float value[WIDE(WIDTH)];
    memcpy(value, sum, sizeof value);
    for (size_t r = 0; r < count; r++) scores[r] = value[WIDE(place)(r)];
}

#undef MULTIPLEXER
#undef COLUMNS
#undef COLUMNS_FROM
#undef TABLE
#undef TABLE_FROM
#undef VECTOR
#undef FLOATS
#undef MASK
#undef CODES
#undef WIDE
#undef CODE_ROWS
#undef SHUFFLE_LOG
