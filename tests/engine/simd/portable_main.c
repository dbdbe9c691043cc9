/* Scores the rows of a file as test_simd_arm.py writes it, on the portable path: for machines
 * that the tests can't run Python on. */

#include <stdio.h>
#include <stdlib.h>

#include "_simd_forest.h"

static void must(int holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

/* Reads a count and as many items. */
static const void *read_array(FILE *file, size_t item_size, size_t *count)
{
    uint64_t length;
    must(fread(&length, sizeof length, 1, file) == 1, "no length");
    void *items = malloc(length * item_size + 1);
    must(items != NULL && fread(items, item_size, length, file) == length, "too short");
    if (count != NULL) *count = length;
    return items;
}

int main(int argc, char **argv)
{
    must(argc == 3, "usage: portable_main INPUT SCORES");
    FILE *file = fopen(argv[1], "rb");
    must(file != NULL, "no input");
    const int64_t *integers = read_array(file, sizeof *integers, NULL);
    const float *base = read_array(file, sizeof *base, NULL);
    struct layout in = {
        .num_features = integers[0], .num_columns = integers[1], .depth = integers[2], .base = *base};
#define READ(name, count) in.name = read_array(file, sizeof *in.name, count)
    READ(floored, NULL);
    READ(cut_feature, &in.num_cuts);
    READ(cut_end, NULL);
    READ(cut_columns, NULL);
    READ(thresholds, &in.num_thresholds);
    READ(set_feature, &in.num_sets);
    READ(set_end, NULL);
    READ(set_column, NULL);
    READ(set_missing, NULL);
    READ(members, &in.num_members);
    READ(split_column, &in.num_splits);
    READ(split_code, NULL);
    READ(exits, NULL);
    READ(rest, &in.num_trees);
    READ(deep_column, &in.num_deep);
    READ(deep_code, NULL);
    READ(deep_left, NULL);
    READ(deep_value, NULL);
    READ(step_column, &in.num_steps);
    READ(step_code, NULL);
    READ(step_from, NULL);
    READ(step_to, NULL);
    READ(level_end, &in.num_levels);
    READ(tree_levels, &in.num_stepped);
    READ(places, &in.num_places);
#undef READ
    size_t bytes;
    const char *rows = read_array(file, 1, &bytes);
    fclose(file);

    const char *problem;
    struct forest *forest = forest_new(&in, &problem);
    must(forest != NULL, problem != NULL ? problem : "no memory");
    struct block block = {rows + 1, (bytes - 1) / sizeof(float) / forest->num_features};
    float *scores = malloc(block.rows * sizeof *scores);
    must(scores != NULL, "no memory");
    must(score_portable(forest, &block, 0, block.rows, scores) == 0, "no memory");

    file = fopen(argv[2], "wb");
    must(file != NULL && fwrite(scores, sizeof *scores, block.rows, file) == block.rows &&
             fclose(file) == 0, "can't write");
    forest_free(forest);
    free(scores);
    return 0;
}
