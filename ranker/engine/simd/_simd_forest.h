/* The forest as the kernel walks it: layout.py's arrays, packed and aligned.
 *
 * columns.py explains codes, columns, cuts and sets, layout.py tiles and deep nodes. A block
 * of rows is coded into one array, column after column, with the same number
 * of rows (16, 32 or 64) in each; a split therefore keeps 16 times its column,
 * which every walk scales to its own block by a constant. A block of two vectors has two
 * such arrays, one after the other.
 */
#ifndef RANKER_SIMD_FOREST_H
#define RANKER_SIMD_FOREST_H

#include <stddef.h>
#include <stdint.h>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "NaN means missing here, and sums have their order: build without -ffast-math and its like"
#endif

enum { MAX_DEPTH = 8, NEVER_RIGHT = 255, CACHE_LINE = 64, COLUMN_UNIT = 16,
       MAX_LEVELS = 8, MAX_CUT = (1 << MAX_LEVELS) - 1 };

/* A code as the kernel keeps it, of rows and of splits: signed, with the same order, because
 * AVX2 has no comparison of unsigned bytes. */
static inline int8_t signed_code(unsigned code)
{
    return (int8_t)((int)code - 128);
}

/* A code as the layout has it. */
static inline uint8_t unsigned_code(int8_t code)
{
    return (uint8_t)(code + 128);
}

/* One slice of one feature's thresholds: finds how many are at or below x. */
struct cut {
    /* 16 splitters, each the last of 16 thresholds, then those groups; padded with NaN. */
    const float *table;
    /* The thresholds as a tree: node i's children are 2i and 2i + 1, the root is 1. It is
     * perfect: padded with NaN. */
    const float *tree;
    uint32_t levels; /* of the tree, 4 to MAX_LEVELS */
    uint32_t feature;
    uint32_t column_missing_left;
    uint32_t column_missing_right;
};

/* One categorical split: whether x is a member. */
struct set {
    const float *members; /* ascending */
    uint32_t size;
    uint32_t feature;
    uint32_t column;
    uint8_t missing; /* the code of NaN: 0 or 1 */
};

/* The top of a tree. Node i's children are 2i and 2i + 1, the root is 1. */
struct tile {
    const int8_t *code;     /* [2^depth, at least 64]: go right if the row's code is greater */
    const uint32_t *offset; /* [2^depth]: COLUMN_UNIT times the column to compare */
    const float *value;     /* [2^depth]: the exits' leaf values, left to right, */
    const uint32_t *deep;   /* or the deep nodes to go on from, in the same place */
    /* The exits once more, split into their four bytes: four planes of plane_size() bytes.
     * In a tile of less than 64 exits, exit j stands at 2^depth + j, which is what the walk
     * ends with; else at j, which is the same modulo 64. */
    const uint8_t *plane;
};

/* A node below a tile, for the narrow walk. The right child follows the left one; a leaf is its own left child. */
struct deep {
    uint32_t offset;
    uint32_t left;
    float value;
    uint8_t code; /* unsigned: adding the carry of a comparison takes the least time */
};

/* A node below a tile, for the wide walk: rows at place `from` that go right move on. */
struct step {
    uint32_t offset;
    int8_t code;
    uint8_t from;
    uint8_t to;
};

struct forest {
    uint32_t num_features;
    uint32_t num_columns;
    uint32_t num_cuts;
    uint32_t num_sets;
    uint32_t num_trees;
    uint32_t num_deep; /* 0: all exits are leaves */
    uint32_t depth;    /* of every tile */
    uint32_t place_bits; /* log2 of the places per tree, 6 to 8; 0: the forest has no steps */
    float base;
    const struct cut *cuts;
    const struct set *sets;
    const uint8_t *floored; /* [num_features] */
    const char *tiles;    /* see tile_at() */
    const uint32_t *rest; /* [num_trees]: most steps from an exit to a leaf */
    const struct deep *deep;
    const struct step *steps;
    const uint32_t *level_end;   /* where each level ends among the steps */
    const uint32_t *tree_levels; /* where each tree ends among the levels */
    const uint8_t *places;       /* the leaf values at a tree's places, in four byte planes */
    void *memory; /* all of the above */
};

/* The arrays of layout.Layout, by the same names; counts are of elements. */
struct layout {
    int64_t num_features, num_columns, depth;
    const uint8_t *floored;
    const int32_t *cut_feature, *cut_end, *cut_columns;
    const float *thresholds;
    const int32_t *set_feature, *set_end, *set_column;
    const uint8_t *set_missing;
    const float *members;
    const int32_t *split_column;
    const uint8_t *split_code;
    const uint32_t *exits;
    const int32_t *rest, *deep_column;
    const uint8_t *deep_code;
    const int32_t *deep_left;
    const float *deep_value;
    const int32_t *step_column;
    const uint8_t *step_code, *step_from, *step_to;
    const int32_t *level_end, *tree_levels;
    const uint32_t *places;
    size_t num_steps, num_levels, num_stepped, num_places;
    size_t num_thresholds, num_cuts, num_members, num_sets, num_splits, num_trees, num_deep;
    float base;
};

/* Rows that lie next to each other; they need not be aligned. */
struct block {
    const char *data;
    size_t rows;
};

/* Scores `count` rows, from row `begin` of the blocks taken as one sequence.
 * Returns 0, or -1 if there is no memory for the codes. */
typedef int score_rows(const struct forest *forest, const struct block *blocks, size_t begin,
                       size_t count, float *scores);

score_rows score_portable;
#if defined(__x86_64__)
score_rows score_avx2;
score_rows score_avx512;
#endif

/* Packs a layout. Everything that the kernel's memory safety depends on is checked again
 * here. Returns NULL and sets *problem, which is static text, if something is out of
 * bounds, or to NULL if memory is short. */
struct forest *forest_new(const struct layout *layout, const char **problem);
void forest_free(struct forest *forest);

/* ---- Where things are in a tile ------------------------------------------------------ */

static inline size_t plane_size(uint32_t depth)
{
    return depth < 6 ? 64 : (size_t)1 << depth;
}

static inline size_t tile_size(uint32_t depth)
{
    size_t words = sizeof(uint32_t) * plane_size(depth);
    return plane_size(depth) + words + words + words;
}

static inline struct tile tile_at(const char *tiles, size_t tree, uint32_t depth)
{
    const char *code = tiles + tree * tile_size(depth);
    const char *offset = code + plane_size(depth);
    const char *exit = offset + sizeof(uint32_t) * plane_size(depth);
    const char *plane = exit + sizeof(uint32_t) * plane_size(depth);
    return (struct tile){(const int8_t *)code, (const uint32_t *)offset, (const float *)exit,
                         (const uint32_t *)exit, (const uint8_t *)plane};
}

#endif
