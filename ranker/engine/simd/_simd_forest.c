/* Packs layout.py's arrays into the structures that the kernel walks. */

#include "_simd_forest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP = 16 };

static size_t padded(size_t bytes)
{
    return (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

static size_t table_size(size_t thresholds)
{
    return sizeof(float) * GROUP * (1 + thresholds / GROUP + 1);
}

/* Of the smallest perfect tree that has so many nodes and fills a cache line. */
static uint32_t levels_of(size_t thresholds)
{
    uint32_t levels = 4;
    while (thresholds >> levels) levels++;
    return levels;
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

/* log2 of the places per tree; 0 if there are no steps. */
static uint32_t place_bits(const struct layout *in)
{
    uint32_t bits = 6;
    if (in->num_stepped == 0) return 0;
    while (bits < 8 && in->num_stepped << bits < in->num_places) bits++;
    return bits;
}

static const char *check_steps(const struct layout *in)
{
    if (in->num_stepped == 0) return in->num_steps || in->num_places ? "tree_levels" : NULL;
    if (in->num_stepped != in->num_trees) return "tree_levels";
    uint32_t bits = place_bits(in);
    if (in->num_places != in->num_trees << bits) return "places";
    for (size_t i = 0; i < in->num_steps; i++) {
        if (in->step_column[i] < 0 || in->step_column[i] >= in->num_columns) return "step_column";
        if (in->step_to[i] >> bits) return "step_to";
    }
    int32_t end = 0;
    for (size_t i = 0; i < in->num_levels; end = in->level_end[i++])
        if (in->level_end[i] < end || (size_t)in->level_end[i] > in->num_steps) return "level_end";
    end = 0;
    for (size_t i = 0; i < in->num_trees; end = in->tree_levels[i++])
        if (in->tree_levels[i] < end || (size_t)in->tree_levels[i] > in->num_levels)
            return "tree_levels";
    return NULL;
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
    return check_steps(in);
}

/* What pack_cut() takes. */
static size_t cut_size(size_t thresholds)
{
    return padded(table_size(thresholds)) + padded(sizeof(float) << levels_of(thresholds));
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

    cut->levels = levels_of(count);
    float *tree = take(arena, sizeof(float) << cut->levels);
    tree[0] = NAN;
    for (uint32_t level = 0; level < cut->levels; level++)
        for (size_t node = (size_t)1 << level, at = 0; at >> level == 0; at++) {
            /* So many thresholds are left of it. */
            size_t before = ((2 * at + 1) << (cut->levels - 1 - level)) - 1;
            tree[node + at] = before < count ? thresholds[before] : NAN;
        }
    cut->tree = tree;
}

/* Splits values, given by their bits, into four planes of bytes; value j stands at
 * (first + j) modulo the size of a plane. */
static void pack_planes(uint8_t *plane, size_t size, const uint32_t *bits, size_t count,
                        size_t first)
{
    memset(plane, 0, 4 * size);
    for (size_t j = 0; j < count; j++)
        for (int byte = 0; byte < 4; byte++)
            plane[byte * size + (first + j) % size] = (uint8_t)(bits[j] >> 8 * byte);
}

static void pack_tile(char *tiles, size_t tree, const struct layout *in)
{
    size_t exits = (size_t)1 << in->depth;
    size_t size = plane_size((uint32_t)in->depth);
    struct tile tile = tile_at(tiles, tree, (uint32_t)in->depth);
    int8_t *code = (int8_t *)tile.code;
    uint32_t *offset = (uint32_t *)tile.offset, *exit = (uint32_t *)tile.deep;
    memset(code, signed_code(NEVER_RIGHT), size);
    pack_planes((uint8_t *)tile.plane, size, in->exits + tree * exits, exits, exits);
    for (size_t j = 0; j < exits; j++) {
        size_t from = tree * exits + j;
        code[j] = signed_code(in->split_code[from]);
        offset[j] = (uint32_t)in->split_column[from] * COLUMN_UNIT;
        exit[j] = in->exits[from];
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
                  padded(in->num_deep * sizeof(struct deep)) +
                  padded(in->num_steps * sizeof(struct step)) +
                  padded(in->num_levels * sizeof(uint32_t)) +
                  padded(in->num_stepped * sizeof(uint32_t)) + padded(in->num_places * 4);
    for (size_t i = 0, begin = 0; i < in->num_cuts; begin = (size_t)in->cut_end[i++])
        size += cut_size((size_t)in->cut_end[i] - begin);

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
    forest->place_bits = place_bits(in);
    forest->base = in->base;

    struct cut *cuts = take(&arena, in->num_cuts * sizeof *cuts);
    struct set *sets = take(&arena, in->num_sets * sizeof *sets);
    char *tiles = take(&arena, in->num_trees * tile_size(forest->depth));
    uint32_t *rest = take(&arena, in->num_trees * sizeof *rest);
    struct deep *deep = take(&arena, in->num_deep * sizeof *deep);
    struct step *steps = take(&arena, in->num_steps * sizeof *steps);
    uint32_t *level_end = take(&arena, in->num_levels * sizeof *level_end);
    uint32_t *tree_levels = take(&arena, in->num_stepped * sizeof *tree_levels);
    uint8_t *places = take(&arena, in->num_places * 4);
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
    for (size_t i = 0; i < in->num_steps; i++) {
        steps[i].offset = (uint32_t)in->step_column[i] * COLUMN_UNIT;
        steps[i].code = signed_code(in->step_code[i]);
        steps[i].from = in->step_from[i];
        steps[i].to = in->step_to[i];
    }
    for (size_t i = 0; i < in->num_levels; i++) level_end[i] = (uint32_t)in->level_end[i];
    for (size_t i = 0; i < in->num_stepped; i++) {
        size_t size = (size_t)1 << forest->place_bits;
        tree_levels[i] = (uint32_t)in->tree_levels[i];
        pack_planes(places + 4 * i * size, size, in->places + i * size, size, 0);
    }
    forest->cuts = cuts;
    forest->sets = sets;
    forest->tiles = tiles;
    forest->rest = rest;
    forest->deep = deep;
    forest->steps = steps;
    forest->level_end = level_end;
    forest->tree_levels = tree_levels;
    forest->places = places;
    forest->floored = floored;
    return forest;
}

void forest_free(struct forest *forest)
{
    if (forest == NULL) return;
    free(forest->memory);
    free(forest);
}
