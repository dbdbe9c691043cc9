/* How rows are scored; a template, included once per instruction set by _simd_paths.c.
 *
 * A block of rows is coded (columns.py), then walks every tree in turn, and the leaves'
 * values are added in the order of the trees. There are two walks. With code(r, c) the
 * code of row r in column c, both compute
 *
 *     at = 1                                       the tile's root
 *     repeat depth times:
 *         right = code(row, column[at]) > threshold_code[at]
 *         at = 2 * at + right
 *     value = exit[at - 2^depth]
 *
 * The *narrow* walk does so for one row and GROUP trees in step, so that their loads overlap;
 * no branch depends on the data. Below a tile it follows explicit nodes, again in step:
 *
 *     node = exit[at - 2^depth]
 *     repeat until all are leaves:  node = left[node] + (code(row, column[node]) > code[node])
 *
 * The *wide* walk does so for as many rows as a vector has bytes. `threshold_code[at]` is
 * a byte shuffle, as a whole level's codes fit in a register. `code(row, column[at])` would
 * be a gather from as many columns as rows; instead every column of the level is read, and
 * the one that a row needs is selected by the decisions already made, as a multiplexer does:
 *
 *     level 2, nodes 4 5 6 7:   even = right[0] ? code(column[6]) : code(column[4])
 *                               odd  = right[0] ? code(column[7]) : code(column[5])
 *                               code = right[1] ? odd : even
 *
 * A tile of n exits thus costs n loads and about n blends for 32 or 64 rows. Selecting by
 * the oldest decision first leaves only one blend to wait for the newest. The exits' values
 * are looked up like the threshold codes, one plane of bytes after the other. Below a tile,
 * all the tree's nodes are evaluated, a level at a time, on the rows' places:
 *
 *     place = at - 2^depth
 *     for each step of each level:
 *         if place == step.from and code(row, step.column) > step.code:  place = step.to
 *     value = places[place]
 *
 * Sources: perfect trees without branches, Asadi, Lin and de Vries, "Runtime Optimizations
 * for Tree-Based Machine Learning Models", IEEE TKDE 26(9), 2014; rows coded once and many
 * rows per vector, with all nodes of a tree evaluated instead of a path followed, Lucchese
 * et al., "QuickScorer", SIGIR 2015, its vectorised form, SIGIR 2016, and Ye et al.,
 * "RapidScorer", KDD 2018.
 *
 * The includer defines
 *     PATH(name)                  the name's variant for this instruction set
 *     COUNT_AT_MOST(groups, x)    how many of 16 aligned floats are <= x
 * and, for the wide walk,
 *     CODE_WIDE                   code_cuts(), but for a block as wide as a vector
 *     VECTOR, FLOATS              a vector of bytes; the same size in floats
 *     MASK                        one decision per byte
 *     SHUFFLE_LOG                 log2 of the table's size, 4 or 6, in
 *     LOAD_TABLE(p)               a table of bytes at p, and
 *     SHUFFLE(table, at)          the byte of the table at `at` modulo its size
 *     LOAD(p), SPLAT(byte), GREATER(a, b) (unsigned), BLEND(mask, if_not, if_set),
 *     CHILD(at, right)            2 * at + right
 *     AND(a, b), AND_EQUAL(mask, a, b), BIT(a, i): the mask of bit i of each byte,
 *     UNPACK(lo/hi, 8/16)         interleave within 128-bit lanes
 *     ADD(floats, bytes)          the bytes are floats
 */

#define INLINE static inline __attribute__((always_inline))

/* ---- Coding ------------------------------------------------------------------------- */

static void PATH(code_cuts)(const struct forest *forest, const char *const *row, size_t count,
                            uint8_t *codes)
{
    float x[COLUMN_UNIT];
    for (size_t i = 0; i < forest->num_cuts; i++) {
        const struct cut cut = forest->cuts[i];
        uint8_t *left = codes + (size_t)COLUMN_UNIT * cut.column_missing_left;
        uint8_t *right = codes + (size_t)COLUMN_UNIT * cut.column_missing_right;
        if (i == 0 || cut.feature != forest->cuts[i - 1].feature)
            read_column(forest, row, count, cut.feature, x);
        for (size_t r = 0; r < count; r++) {
            unsigned group = COUNT_AT_MOST(cut.table, x[r]);
            left[r] = (uint8_t)(16 * group + COUNT_AT_MOST(cut.table + 16 + 16 * group, x[r]));
        }
        /* NaN compares with nothing, so its code is 0 by now. */
        for (size_t r = 0; r < count; r++) right[r] = x[r] != x[r] ? 255 : left[r];
    }
}

/* ---- Narrow walk --------------------------------------------------------------------- */

/* From tiles' exits down to leaves: GROUP walks in step, walk k in the column codes + step * k.
 * A leaf leads to itself, so that the walks may differ in length. */
INLINE void PATH(walk_deep)(const struct deep *deep, uint32_t rest, const uint8_t *codes,
                            const size_t scale, const size_t step, const int group,
                            uint32_t *node)
{
    for (uint32_t done = 0; done < rest; done += 4) {
        int leaves = 1;
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < group; k++) {
                const struct deep *at = &deep[node[k]];
                node[k] = at->left + (codes[scale * at->offset + step * k] > at->code);
            }
        for (int k = 0; k < group; k++) leaves &= deep[node[k]].code == NEVER_RIGHT;
        if (leaves) break;
    }
}

/* Adds `group` trees' leaves, from `tree` on, to the score of the row whose codes begin here. */
INLINE float PATH(add_trees)(const struct forest *forest, size_t tree, const int group,
                             const uint8_t *codes, const uint32_t depth, float score)
{
    const char *tiles = forest->tiles + tree * tile_size(depth);
    size_t at[GROUP];
    for (int k = 0; k < group; k++) at[k] = 1;
#pragma GCC unroll 8
    for (uint32_t level = 0; level < depth; level++)
        for (int k = 0; k < group; k++) {
            const struct tile tile = tile_at(tiles, k, depth);
            size_t right = codes[tile.offset[at[k]]] > tile.code[at[k]];
            at[k] = 2 * at[k] + right;
        }
    if (forest->num_deep == 0) {
        for (int k = 0; k < group; k++)
            score += tile_at(tiles, k, depth).value[at[k] - ((size_t)1 << depth)];
    } else {
        uint32_t node[GROUP], rest = 0;
        for (int k = 0; k < group; k++) {
            node[k] = tile_at(tiles, k, depth).deep[at[k] - ((size_t)1 << depth)];
            if (rest < forest->rest[tree + k]) rest = forest->rest[tree + k];
        }
        PATH(walk_deep)(forest->deep, rest, codes, 1, 0, group, node);
        for (int k = 0; k < group; k++) score += forest->deep[node[k]].value;
    }
    return score;
}

INLINE void PATH(narrow_trees)(const struct forest *forest, size_t count, const uint8_t *codes,
                               float *scores, const uint32_t depth)
{
    size_t tree = 0;
    for (size_t r = 0; r < count; r++) scores[r] = 0;
    for (; tree + GROUP <= forest->num_trees; tree += GROUP)
        for (size_t r = 0; r < count; r++)
            scores[r] = PATH(add_trees)(forest, tree, GROUP, codes + r, depth, scores[r]);
    for (; tree < forest->num_trees; tree++)
        for (size_t r = 0; r < count; r++)
            scores[r] = PATH(add_trees)(forest, tree, 1, codes + r, depth, scores[r]);
}

static void PATH(narrow_block)(const struct forest *forest, const char *const *row, size_t count,
                               uint8_t *codes, float *scores)
{
    PATH(code_cuts)(forest, row, count, codes);
    code_sets(forest, row, count, COLUMN_UNIT, codes);
    switch (forest->depth) {
    case 0: PATH(narrow_trees)(forest, count, codes, scores, 0); break;
    case 1: PATH(narrow_trees)(forest, count, codes, scores, 1); break;
    case 2: PATH(narrow_trees)(forest, count, codes, scores, 2); break;
    case 3: PATH(narrow_trees)(forest, count, codes, scores, 3); break;
    case 4: PATH(narrow_trees)(forest, count, codes, scores, 4); break;
    case 5: PATH(narrow_trees)(forest, count, codes, scores, 5); break;
    case 6: PATH(narrow_trees)(forest, count, codes, scores, 6); break;
    case 7: PATH(narrow_trees)(forest, count, codes, scores, 7); break;
    case 8: PATH(narrow_trees)(forest, count, codes, scores, 8); break;
    }
}

/* ---- Wide walk ----------------------------------------------------------------------- */

#ifdef VECTOR

enum { PATH(WIDTH) = sizeof(VECTOR) };

/* A multiplexer of 2^n inputs, `distance` apart on the newest of its n decisions. */
#define MULTIPLEXER(name, n, less, type, input)                                               \
    INLINE VECTOR PATH(name##n)(type, size_t distance, const MASK *right)                     \
    {                                                                                         \
        VECTOR if_left = PATH(name##less)(input(0), 2 * distance, right);                     \
        VECTOR if_right = PATH(name##less)(input(distance), 2 * distance, right);             \
        return BLEND(right[n - 1], if_left, if_right);                                        \
    }

/* Of a level's columns, the one that each row's decisions so far lead to. */
#define COLUMNS const uint8_t *codes, const uint32_t *offset
#define COLUMNS_FROM(j) codes, offset + (j)
INLINE VECTOR PATH(column0)(COLUMNS, size_t distance, const MASK *right)
{
    (void)distance, (void)right;
    return LOAD(codes + PATH(WIDTH) / COLUMN_UNIT * (size_t)*offset);
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
INLINE VECTOR PATH(table0)(TABLE, size_t distance, const MASK *right)
{
    (void)distance, (void)right;
    return SHUFFLE(LOAD_TABLE(table), at);
}
MULTIPLEXER(table, 1, 0, TABLE, TABLE_FROM)
MULTIPLEXER(table, 2, 1, TABLE, TABLE_FROM)
MULTIPLEXER(table, 3, 2, TABLE, TABLE_FROM)
MULTIPLEXER(table, 4, 3, TABLE, TABLE_FROM)

/* Looks up one of the 2^level bytes of a tile's level, which stand at 2^level modulo 64. */
INLINE VECTOR PATH(look_up)(const uint8_t *table, VECTOR at, const MASK *right, const int level)
{
    const size_t size = (size_t)1 << SHUFFLE_LOG;
    if (level >= SHUFFLE_LOG && level < 6) table += (size_t)1 << level;
    switch (level - SHUFFLE_LOG) {
    case 1: return PATH(table1)(table, at, size, right);
    case 2: return PATH(table2)(table, at, size, right);
    case 3: return PATH(table3)(table, at, size, right);
    case 4: return PATH(table4)(table, at, size, right);
    default: return PATH(table0)(table, at, size, right);
    }
}

INLINE VECTOR PATH(select_column)(const uint8_t *codes, const uint32_t *offset,
                                  const MASK *right, const int level)
{
    switch (level) {
    case 0: return PATH(column0)(codes, offset, 1, right);
    case 1: return PATH(column1)(codes, offset, 1, right);
    case 2: return PATH(column2)(codes, offset, 1, right);
    case 3: return PATH(column3)(codes, offset, 1, right);
    case 4: return PATH(column4)(codes, offset, 1, right);
    case 5: return PATH(column5)(codes, offset, 1, right);
    case 6: return PATH(column6)(codes, offset, 1, right);
    default: return PATH(column7)(codes, offset, 1, right);
    }
}

INLINE VECTOR PATH(descend)(const struct tile *tile, const uint8_t *codes, VECTOR at,
                            MASK *right, const int level)
{
    const uint32_t *offset = tile->offset + ((size_t)1 << level);
    const uint8_t *code = level < 6 ? tile->code : tile->code + ((size_t)1 << level);
    VECTOR column = PATH(select_column)(codes, offset, right, level);
    right[level] = GREATER(column, PATH(look_up)(code, at, right, level));
    return CHILD(at, right[level]);
}

/* Adds values to the sums; 2^bits values in four byte planes, one for each row's `at`. The
 * sums are 4 vectors in the order in which UNPACK leaves them, see place(). */
INLINE void PATH(add_values)(const uint8_t *plane, VECTOR at, const MASK *right, FLOATS *sum,
                             const int bits)
{
    const size_t size = plane_size(bits);
    VECTOR byte0 = PATH(look_up)(plane, at, right, bits);
    VECTOR byte1 = PATH(look_up)(plane + size, at, right, bits);
    VECTOR byte2 = PATH(look_up)(plane + 2 * size, at, right, bits);
    VECTOR byte3 = PATH(look_up)(plane + 3 * size, at, right, bits);
    VECTOR low01 = UNPACK(lo, 8)(byte0, byte1), high01 = UNPACK(hi, 8)(byte0, byte1);
    VECTOR low23 = UNPACK(lo, 8)(byte2, byte3), high23 = UNPACK(hi, 8)(byte2, byte3);
    sum[0] = ADD(sum[0], UNPACK(lo, 16)(low01, low23));
    sum[1] = ADD(sum[1], UNPACK(hi, 16)(low01, low23));
    sum[2] = ADD(sum[2], UNPACK(lo, 16)(high01, high23));
    sum[3] = ADD(sum[3], UNPACK(hi, 16)(high01, high23));
}

/* Where add_values() puts a row among its 4 vectors of floats. */
INLINE size_t PATH(place)(size_t row)
{
    size_t lane = row / 16, vector = row / 4 % 4, element = row % 4;
    return PATH(WIDTH) / 4 * vector + 4 * lane + element;
}

/* Moves rows from the exits of a tile to their leaves' places. */
INLINE VECTOR PATH(take_steps)(const struct forest *forest, size_t tree, const uint8_t *codes,
                               VECTOR at)
{
    uint32_t level = tree == 0 ? 0 : forest->tree_levels[tree - 1];
    uint32_t i = level == 0 ? 0 : forest->level_end[level - 1];
    for (; level < forest->tree_levels[tree]; level++) {
        const VECTOR from = at; /* so that a level's steps don't wait for each other */
        for (; i < forest->level_end[level]; i++) {
            const struct step step = forest->steps[i];
            VECTOR column = LOAD(codes + PATH(WIDTH) / COLUMN_UNIT * (size_t)step.offset);
            MASK right = GREATER(column, SPLAT((char)step.code));
            at = BLEND(AND_EQUAL(right, from, SPLAT((char)step.from)), at, SPLAT((char)step.to));
        }
    }
    return at;
}

INLINE void PATH(add_steps)(const struct forest *forest, size_t tree, const uint8_t *codes,
                            VECTOR at, FLOATS *sum, const int bits)
{
    MASK bit[8];
    at = PATH(take_steps)(forest, tree, codes, at);
    for (int i = 0; i < bits; i++) bit[i] = BIT(at, bits - 1 - i);
    PATH(add_values)(forest->places + tree * 4 * plane_size(bits), at, bit, sum, bits);
}

INLINE void PATH(wide_trees)(const struct forest *forest, const uint8_t *codes, FLOATS *sum,
                             const int depth)
{
    for (size_t tree = 0; tree < forest->num_trees; tree++) {
        const struct tile tile = tile_at(forest->tiles, tree, depth);
        MASK right[MAX_DEPTH];
        VECTOR at = SPLAT(1);
        if (depth > 0) at = PATH(descend)(&tile, codes, at, right, 0);
        if (depth > 1) at = PATH(descend)(&tile, codes, at, right, 1);
        if (depth > 2) at = PATH(descend)(&tile, codes, at, right, 2);
        if (depth > 3) at = PATH(descend)(&tile, codes, at, right, 3);
        if (depth > 4) at = PATH(descend)(&tile, codes, at, right, 4);
        if (depth > 5) at = PATH(descend)(&tile, codes, at, right, 5);
        if (depth > 6) at = PATH(descend)(&tile, codes, at, right, 6);
        if (depth > 7) at = PATH(descend)(&tile, codes, at, right, 7);
        if (forest->place_bits == 0) {
            PATH(add_values)(tile.plane, at, right, sum, depth);
            continue;
        }
        at = AND(at, SPLAT((char)((1 << depth) - 1)));
        switch (forest->place_bits) {
        case 6: PATH(add_steps)(forest, tree, codes, at, sum, 6); break;
        case 7: PATH(add_steps)(forest, tree, codes, at, sum, 7); break;
        case 8: PATH(add_steps)(forest, tree, codes, at, sum, 8); break;
        }
    }
}

static void PATH(wide_block)(const struct forest *forest, const char *const *row, size_t count,
                             uint8_t *codes, float *scores)
{
    CODE_WIDE(forest, row, count, codes);
    code_sets(forest, row, count, PATH(WIDTH), codes);
    FLOATS sum[4] = {{0}, {0}, {0}, {0}};
    switch (forest->depth) {
    case 0: PATH(wide_trees)(forest, codes, sum, 0); break;
    case 1: PATH(wide_trees)(forest, codes, sum, 1); break;
    case 2: PATH(wide_trees)(forest, codes, sum, 2); break;
    case 3: PATH(wide_trees)(forest, codes, sum, 3); break;
    case 4: PATH(wide_trees)(forest, codes, sum, 4); break;
    case 5: PATH(wide_trees)(forest, codes, sum, 5); break;
    case 6: PATH(wide_trees)(forest, codes, sum, 6); break;
    case 7: PATH(wide_trees)(forest, codes, sum, 7); break;
    case 8: PATH(wide_trees)(forest, codes, sum, 8); break;
    }
    float value[PATH(WIDTH)];
    memcpy(value, sum, sizeof value);
    for (size_t r = 0; r < count; r++) scores[r] = value[PATH(place)(r)];
}

#undef MULTIPLEXER
#undef COLUMNS
#undef COLUMNS_FROM
#undef TABLE
#undef TABLE_FROM
#endif

/* ---- Both ---------------------------------------------------------------------------- */

int PATH(score)(const struct forest *forest, const struct block *blocks, size_t begin,
                size_t count, float *scores)
{
    const char *row[MAX_WIDTH];
    struct cursor cursor = cursor_at(blocks, begin, forest->num_features);
#ifdef VECTOR
    const size_t width = PATH(WIDTH);
    const size_t narrow_below = rows_for_wide(forest, width);
#else
    const size_t width = COLUMN_UNIT, narrow_below = SIZE_MAX;
#endif
    uint8_t *codes = new_codes(forest, count < narrow_below ? COLUMN_UNIT : width);
    if (codes == NULL) return -1;
    for (size_t done = 0; done < count;) {
        size_t left = count - done;
        size_t wide = left >= narrow_below;
        size_t size = wide ? width : COLUMN_UNIT;
        if (size > left) size = left;
        next_rows(&cursor, size, row);
#ifdef VECTOR
        if (wide)
            PATH(wide_block)(forest, row, size, codes, scores + done);
        else
#endif
            PATH(narrow_block)(forest, row, size, codes, scores + done);
        done += size;
    }
    if (forest->base != 0)
        for (size_t r = 0; r < count; r++) scores[r] += forest->base;
    free(codes);
    return 0;
}
#undef INLINE
