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
 * The *wide* walk, _simd_wide.h, does so for a vector of rows and one tree.
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
 * and, if there is a wide walk, HAS_WIDE. Then there are, for a vector of rows and for a pair,
 *     PATH(wide_block_one)        narrow_block(), but wide, for at most VECTOR_ROWS rows
 *     PATH(wide_block_pair)       likewise, for at most MOST_ROWS
 * And it defines how many rows a block has: VECTOR_ROWS in one vector, MOST_ROWS in the largest.
 * The macros are undefined again at the end.
 */

/* ---- Coding ------------------------------------------------------------------------- */

static void PATH(code_cuts)(const struct forest *forest, const char *const *row, size_t count,
                            int8_t *codes)
{
    float x[COLUMN_UNIT];
    for (size_t i = 0; i < forest->num_cuts; i++) {
        const struct cut cut = forest->cuts[i];
        int8_t *left = codes + (size_t)COLUMN_UNIT * cut.column_missing_left;
        int8_t *right = codes + (size_t)COLUMN_UNIT * cut.column_missing_right;
        if (i == 0 || cut.feature != forest->cuts[i - 1].feature)
            read_column(forest, row, count, cut.feature, x);
        for (size_t r = 0; r < count; r++) {
            unsigned group = COUNT_AT_MOST(cut.table, x[r]);
            unsigned before = 16 * group;
            left[r] = signed_code(before + COUNT_AT_MOST(cut.table + 16 + before, x[r]));
        }
        /* NaN compares with nothing, so its code is 0 by now. */
        for (size_t r = 0; r < count; r++) right[r] = x[r] != x[r] ? signed_code(255) : left[r];
    }
}

/* ---- Narrow walk --------------------------------------------------------------------- */

/* From tiles' exits down to leaves: GROUP walks in step, walk k in the column codes + step * k.
 * A leaf leads to itself, so that the walks may differ in length. */
INLINE void PATH(walk_deep)(const struct deep *deep, uint32_t rest, const int8_t *codes,
                            const size_t scale, const size_t step, const int group,
                            uint32_t *node)
{
    for (uint32_t done = 0; done < rest; done += 4) {
        int leaves = 1;
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < group; k++) {
                const struct deep *at = &deep[node[k]];
                uint8_t code = unsigned_code(codes[scale * at->offset + step * k]);
                node[k] = at->left + (code > at->code);
            }
        for (int k = 0; k < group; k++) leaves &= deep[node[k]].code == NEVER_RIGHT;
        if (leaves) break;
    }
}

/* Adds `group` trees' leaves, from `tree` on, to the score of the row whose codes begin here. */
INLINE float PATH(add_trees)(const struct forest *forest, size_t tree, const int group,
                             const int8_t *codes, const uint32_t depth, float score)
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

INLINE void PATH(narrow_trees)(const struct forest *forest, size_t count, const int8_t *codes,
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
                               int8_t *codes, float *scores)
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

/* ---- Both ---------------------------------------------------------------------------- */

#ifdef HAS_WIDE
static void PATH(wide_block)(const struct forest *forest, const char *const *row, size_t count,
                             int8_t *codes, float *scores)
{
    if (count > VECTOR_ROWS)
        PATH(wide_block_pair)(forest, row, count, codes, scores);
    else
        PATH(wide_block_one)(forest, row, count, codes, scores);
}
#endif

int PATH(score)(const struct forest *forest, const struct block *blocks, size_t begin,
                size_t count, float *scores)
{
    const char *row[MAX_WIDTH];
    struct cursor cursor = cursor_at(blocks, begin, forest->num_features);
#ifdef HAS_WIDE
    const size_t wide_from = rows_for_wide(forest, VECTOR_ROWS);
    const size_t room = count < wide_from      ? COLUMN_UNIT
                        : count <= VECTOR_ROWS ? VECTOR_ROWS
                                               : MOST_ROWS;
#else
    const size_t wide_from = SIZE_MAX, room = COLUMN_UNIT;
#endif
    int8_t *codes = new_codes(forest, room);
    if (codes == NULL) return -1;
    for (size_t done = 0; done < count;) {
        const size_t size = block_rows(count - done, wide_from, VECTOR_ROWS, MOST_ROWS);
        next_rows(&cursor, size, row);
#ifdef HAS_WIDE
        if (size >= wide_from)
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
#undef PATH
#undef COUNT_AT_MOST
#undef VECTOR_ROWS
#undef MOST_ROWS
#undef HAS_WIDE
