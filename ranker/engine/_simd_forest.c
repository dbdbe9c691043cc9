/* Packs layout.py's arrays into the structures that the kernel walks. */

#include "_simd_forest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP = 16, MAX_CUT = 255 };

static size_t padded(size_t bytes)
{
    return (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

static size_t table_size(size_t thresholds)
{
    return sizeof(float) * GROUP * (1 + thresholds / GROUP + 1);
}

/* Hands out cache-line aligned pieces of one allocation. */
struct arena {
    char *next;
};

static void *take(struct arena *arena, size_t bytes)
{
    void *piece = arena->next;
    arena->next += padded(bytes);
    return piece;
}

static const char *check(const struct layout *in)
{
    if (in->num_features < 1 || in->num_features > INT32_MAX) return "num_features";
    if (in->num_columns < 1 || in->num_columns > UINT32_MAX / COLUMN_UNIT) return "num_columns";

    int64_t end = 0;
    for (size_t i = 0; i < in->num_cuts; i++) {
        if (in->cut_feature[i] < 0 || in->cut_feature[i] >= in->num_features) return "cut_feature";
        if (in->cut_end[i] < end || in->cut_end[i] - end > MAX_CUT) return "cut_end";
        for (int side = 0; side < 2; side++) {
            int32_t column = in->cut_columns[2 * i + side];
            if (column < 0 || column >= in->num_columns) return "cut_columns";
        }
        end = in->cut_end[i];
    }
    if ((size_t)end != in->num_thresholds) return "thresholds";

    end = 0;
    for (size_t i = 0; i < in->num_sets; i++) {
        if (in->set_feature[i] < 0 || in->set_feature[i] >= in->num_features) return "set_feature";
        if (in->set_end[i] < end) return "set_end";
        if (in->set_column[i] < 0 || in->set_column[i] >= in->num_columns) return "set_column";
        end = in->set_end[i];
    }
    if ((size_t)end != in->num_members) return "members";

    if (in->depth < 0 || in->depth > MAX_DEPTH) return "depth";
    size_t exits = (size_t)1 << in->depth;
    if (in->num_splits != in->num_trees * exits) return "split_column";
    for (size_t i = 0; i < in->num_splits; i++) {
        if (in->split_column[i] < 0 || in->split_column[i] >= in->num_columns)
            return "split_column";
        if (in->num_deep > 0 && in->exits[i] >= in->num_deep) return "exits";
    }
    for (size_t i = 0; i < in->num_trees; i++)
        if (in->rest[i] < 0) return "rest";

    for (size_t i = 0; i < in->num_deep; i++) {
        if (in->deep_column[i] < 0 || in->deep_column[i] >= in->num_columns) return "deep_column";
        /* No byte is greater than 255, so such a node has no right child. */
        size_t children = in->deep_code[i] == NEVER_RIGHT ? 1 : 2;
        if (in->deep_left[i] < 0 || (size_t)in->deep_left[i] + children > in->num_deep)
            return "deep_left";
    }
    return NULL;
}

static void pack_cut(struct cut *cut, const float *thresholds, size_t count, struct arena *arena)
{
    size_t size = table_size(count);
    float *table = take(arena, size);
    for (size_t i = 0; i < size / sizeof(float); i++) table[i] = NAN;
    memcpy(table + GROUP, thresholds, count * sizeof(float));
    for (size_t group = 0; group < count / GROUP; group++)
        table[group] = table[GROUP + GROUP * group + GROUP - 1];
    cut->table = table;
}

static void pack_tile(char *tiles, size_t tree, const struct layout *in)
{
    size_t exits = (size_t)1 << in->depth;
    size_t size = plane_size((uint32_t)in->depth);
    struct tile tile = tile_at(tiles, tree, (uint32_t)in->depth);
    uint8_t *code = (uint8_t *)tile.code, *plane = (uint8_t *)tile.plane;
    uint32_t *offset = (uint32_t *)tile.offset, *exit = (uint32_t *)tile.deep;
    memset(code, NEVER_RIGHT, size);
    memset(plane, 0, 4 * size);
    for (size_t j = 0; j < exits; j++) {
        size_t from = tree * exits + j;
        code[j] = in->split_code[from];
        offset[j] = (uint32_t)in->split_column[from] * COLUMN_UNIT;
        exit[j] = in->exits[from];
        for (int byte = 0; byte < 4; byte++)
            plane[byte * size + (exits + j) % size] = (uint8_t)(exit[j] >> 8 * byte);
    }
}

struct forest *forest_new(const struct layout *in, const char **problem)
{
    *problem = check(in);
    if (*problem) return NULL;

    size_t size = padded(in->num_cuts * sizeof(struct cut)) +
                  padded(in->num_sets * sizeof(struct set)) + padded((size_t)in->num_features) +
                  padded(in->num_members * sizeof(float)) +
                  padded(in->num_trees * tile_size((uint32_t)in->depth)) +
                  padded(in->num_trees * sizeof(uint32_t)) +
                  padded(in->num_deep * sizeof(struct deep));
    for (size_t i = 0, begin = 0; i < in->num_cuts; begin = (size_t)in->cut_end[i++])
        size += table_size((size_t)in->cut_end[i] - begin);

    struct forest *forest = malloc(sizeof *forest);
    struct arena arena = {aligned_alloc(CACHE_LINE, size)};
    if (forest == NULL || arena.next == NULL) {
        free(arena.next);
        free(forest);
        return NULL;
    }
    forest->memory = arena.next;
    forest->num_features = (uint32_t)in->num_features;
    forest->num_columns = (uint32_t)in->num_columns;
    forest->num_cuts = (uint32_t)in->num_cuts;
    forest->num_sets = (uint32_t)in->num_sets;
    forest->num_trees = (uint32_t)in->num_trees;
    forest->num_deep = (uint32_t)in->num_deep;
    forest->depth = (uint32_t)in->depth;
    forest->base = in->base;

    struct cut *cuts = take(&arena, in->num_cuts * sizeof *cuts);
    struct set *sets = take(&arena, in->num_sets * sizeof *sets);
    char *tiles = take(&arena, in->num_trees * tile_size(forest->depth));
    uint32_t *rest = take(&arena, in->num_trees * sizeof *rest);
    struct deep *deep = take(&arena, in->num_deep * sizeof *deep);
    uint8_t *floored = take(&arena, (size_t)in->num_features);
    float *members = take(&arena, in->num_members * sizeof *members);
    memcpy(floored, in->floored, (size_t)in->num_features);
    if (in->num_members) memcpy(members, in->members, in->num_members * sizeof *members);
    for (size_t i = 0, begin = 0; i < in->num_cuts; begin = (size_t)in->cut_end[i++]) {
        pack_cut(&cuts[i], in->thresholds + begin, (size_t)in->cut_end[i] - begin, &arena);
        cuts[i].feature = (uint32_t)in->cut_feature[i];
        cuts[i].column_missing_left = (uint32_t)in->cut_columns[2 * i];
        cuts[i].column_missing_right = (uint32_t)in->cut_columns[2 * i + 1];
    }
    for (size_t i = 0, begin = 0; i < in->num_sets; begin = (size_t)in->set_end[i++]) {
        sets[i].members = members + begin;
        sets[i].size = (uint32_t)((size_t)in->set_end[i] - begin);
        sets[i].feature = (uint32_t)in->set_feature[i];
        sets[i].column = (uint32_t)in->set_column[i];
        sets[i].missing = in->set_missing[i];
    }
    for (size_t i = 0; i < in->num_trees; i++) {
        pack_tile(tiles, i, in);
        rest[i] = (uint32_t)in->rest[i];
    }
    for (size_t i = 0; i < in->num_deep; i++) {
        deep[i].offset = (uint32_t)in->deep_column[i] * COLUMN_UNIT;
        deep[i].left = (uint32_t)in->deep_left[i];
        deep[i].value = in->deep_value[i];
        deep[i].code = in->deep_code[i];
    }
    forest->cuts = cuts;
    forest->sets = sets;
    forest->tiles = tiles;
    forest->rest = rest;
    forest->deep = deep;
    forest->floored = floored;
    return forest;
}

void forest_free(struct forest *forest)
{
    if (forest == NULL) return;
    free(forest->memory);
    free(forest);
}
