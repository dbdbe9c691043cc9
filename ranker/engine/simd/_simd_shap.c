/* Prepares a forest for _simd_shap_walk.h, which says what is computed. */

#include "_simd_shap.h"

#include <stdlib.h>
#include <string.h>

static const char *check(const struct trees *in)
{
    if (in->num_features < 1 || in->num_features > INT32_MAX) return "num_features is out of bounds";
    if ((int64_t)in->num_floored != in->num_features) return "floored has another length";
    if (in->num_nodes > INT32_MAX || in->num_trees > in->num_nodes) return "a root is out of bounds";
    if (!isfinite(in->base)) return "the base is not finite";
    if (in->num_trees == 0 && in->num_nodes > 0) return "a root is out of bounds";
    if (in->num_trees > 0 && in->roots[0] != 0) return "a root is out of bounds";
    for (size_t tree = 0; tree < in->num_trees; tree++) {
        size_t end = tree + 1 < in->num_trees ? (size_t)in->roots[tree + 1] : in->num_nodes;
        if (in->roots[tree] < 0 || end > in->num_nodes || (size_t)in->roots[tree] >= end)
            return "a root is out of bounds";
        for (size_t i = (size_t)in->roots[tree]; i < end; i++) {
            if (in->feature[i] < -1 || in->feature[i] >= in->num_features)
                return "a feature is out of bounds";
            if (in->feature[i] < 0 ? !isfinite(in->threshold[i]) : isnan(in->threshold[i]))
                return "a threshold is NaN, or a leaf not finite";
            if (in->feature[i] < 0) continue;
            if (in->left[i] < 0 || (size_t)in->left[i] <= i || (size_t)in->left[i] + 1 >= end)
                return "a left child is out of bounds";
        }
    }
    for (size_t i = 0; i < in->num_nodes; i++) {
        if (in->members_begin[i] < 0 || in->members_begin[i] > in->members_end[i] ||
            (size_t)in->members_end[i] > in->num_members)
            return "a set is out of bounds";
        if (!isfinite(in->cover[i]) || in->cover[i] < 0) return "a cover is negative or not finite";
    }
    return NULL;
}

/* The points and weights of Gauss and Legendre for an integral from 0 to 1: the roots of the
 * Legendre polynomial of that degree by Newton's method, from Tricomi's first guess. */
static void fill_quadrature(size_t points, double *point, double *weight)
{
    const double pi = 3.14159265358979323846;
    for (size_t i = 0; i < points; i++) {
        double x = cos(pi * ((double)i + 0.75) / ((double)points + 0.5)), slope = 1;
        for (int round = 0; round < 8; round++) {
            double value = 1, before = 0;
            for (size_t degree = 1; degree <= points; degree++) {
                double n = (double)degree;
                double next = ((2 * n - 1) * x * value - (n - 1) * before) / n;
                before = value;
                value = next;
            }
            slope = (double)points * (x * value - before) / (x * x - 1);
            x -= value / slope;
        }
        point[i] = (1 + x) / 2;
        weight[i] = 1 / ((1 - x * x) * slope * slope);
    }
}

/* A split on the way from the root to where the preparation is. */
struct passed {
    size_t split;
    int32_t second;       /* the node that is its second child */
    int in_second;        /* whether the way goes there */
    int32_t above;        /* the level of the nearest split above on the same feature, or -1 */
    uint32_t distinct;    /* features on the way to here */
    double share;         /* share_above, times the share of the child that the way goes to */
    double reach;         /* the product of all shares on the way to here */
};

struct preparation {
    const struct trees *in;
    struct explainer *out;
    struct passed *way;
    uint8_t *seen;         /* [num_nodes] */
    int32_t *nearest;      /* [num_columns]: the lowest level on the way that splits on it, or -1 */
    const uint32_t *column; /* [num_features] */
    size_t num_splits, num_sets;
};

static void set_condition(struct preparation *p, struct split *split, int32_t node, int *met_left)
{
    const struct trees *in = p->in;
    double threshold = widened(in->threshold[node]);
    *met_left = !in->missing_left[node];
    split->threshold = threshold;
    if (in->members_begin[node] != in->members_end[node]) {
        split->set = (uint32_t)++p->num_sets;
        p->out->sets[p->num_sets - 1] = (struct category_set){
            (size_t)in->members_begin[node], (size_t)in->members_end[node],
            in->missing_left[node] != 0};
        split->threshold = 0;
        *met_left = 1;
    } else if (in->missing_left[node]) {
        /* Right if x >= threshold, so that NaN, of which that is not true, goes left. */
        split->negated = 1;
        split->threshold = nextafter(-threshold, INFINITY);
    }
}

/* Adds the split at `node`, on a way of `level` splits, and says which children it has. */
static struct split *add_split(struct preparation *p, int32_t node, size_t level, double reach,
                               int32_t *first)
{
    const struct trees *in = p->in;
    struct split *split = &p->out->splits[p->num_splits];
    struct passed *passed = &p->way[level];
    memset(split, 0, sizeof *split);
    split->column = p->column[in->feature[node]];
    int32_t left = in->left[node], right = left + 1;
    int left_leaf = in->feature[left] < 0, right_leaf = in->feature[right] < 0;
    int right_first = right_leaf && !left_leaf, met_left;
    *first = right_first ? right : left;
    passed->second = right_first ? left : right;
    set_condition(p, split, node, &met_left);

    double cover = (double)in->cover[*first] + in->cover[passed->second];
    split->share = cover > 0 ? in->cover[*first] / cover : 0.5;
    split->if_met = (met_left != right_first) - split->share;
    split->if_not = (met_left == right_first) - split->share;
    split->kind = left_leaf && right_leaf ? BOTH_LEAVES
                  : left_leaf || right_leaf ? FIRST_LEAF : BOTH_INNER;
    if (split->kind != BOTH_INNER) split->first = in->threshold[*first];
    if (split->kind == BOTH_LEAVES) split->second = in->threshold[passed->second];

    passed->split = p->num_splits++;
    passed->in_second = 0;
    passed->reach = reach;
    passed->above = p->nearest[split->column];
    passed->distinct = (level == 0 ? 0 : p->way[level - 1].distinct) + (passed->above < 0);
    split->share_above = 1;
    if (passed->above >= 0) {
        split->again = 1;
        split->level_above = (uint16_t)passed->above;
        split->share_above = p->way[passed->above].share;
        p->out->splits[p->way[passed->above].split].repeated = 1;
    }
    passed->share = split->share_above * split->share;
    p->nearest[split->column] = (int32_t)level;
    return split;
}

static void enter_second(struct preparation *p, struct passed *passed)
{
    const struct split *split = &p->out->splits[passed->split];
    passed->in_second = 1;
    passed->share = split->share_above * (1 - split->share);
}

/* Adds a tree's splits. Returns how many different features the longest way has. */
static const char *add_tree(struct preparation *p, size_t tree, uint32_t *distinct)
{
    const struct trees *in = p->in;
    size_t end = tree + 1 < in->num_trees ? (size_t)in->roots[tree + 1] : in->num_nodes;
    size_t last_split = p->num_splits;
    for (size_t i = (size_t)in->roots[tree]; i < end; i++) last_split += in->feature[i] >= 0;
    int32_t node = in->roots[tree];
    *distinct = 0;
    if (in->feature[node] < 0) {
        p->out->bias += in->threshold[node];
        return NULL;
    }
    size_t level = 0;
    for (double reach = 1;;) {
        if (level == MAX_LEVEL) return "more than 4096 splits on a path";
        if (p->seen[node]++) return "a node has two parents";
        int32_t first;
        struct split *split = add_split(p, node, level, reach, &first);
        struct passed *passed = &p->way[level];
        if (passed->distinct > *distinct) *distinct = passed->distinct;
        if (level + 1 > p->out->max_level) p->out->max_level = (uint32_t)level + 1;
        level++;
        if (split->kind == BOTH_INNER) {
            node = first;
            reach = passed->reach * split->share;
            continue;
        }
        p->out->bias += passed->reach * split->share * split->first;
        if (split->kind == BOTH_LEAVES) {
            p->out->bias += passed->reach * (1 - split->share) * split->second;
            passed->in_second = 1;
            for (size_t done = 0; level > 0 && p->way[level - 1].in_second; done++) {
                level--;
                p->nearest[p->out->splits[p->way[level].split].column] = p->way[level].above;
                split->ends = (uint16_t)done;
            }
            if (level == 0) return p->num_splits == last_split ? NULL : "no root leads to a node";
        }
        passed = &p->way[level - 1];
        enter_second(p, passed);
        node = passed->second;
        reach = passed->reach * (1 - p->out->splits[passed->split].share);
    }
}

/* Puts the trees in the order of how many points they need, and makes the groups. */
static int make_groups(struct explainer *out, const struct walk *walks, const uint32_t *points,
                       size_t num_trees)
{
    size_t count[MAX_POINTS + 1] = {0}, total = 0;
    for (size_t tree = 0; tree < num_trees; tree++) count[points[tree]]++;
    for (size_t n = 1; n <= MAX_POINTS; n++) {
        if (count[n] == 0) continue;
        total += 2 * n;
        out->num_groups++;
    }
    out->groups = calloc(out->num_groups + 1, sizeof *out->groups);
    out->quadrature = calloc(total + 1, sizeof *out->quadrature);
    if (out->groups == NULL || out->quadrature == NULL) return -1;
    size_t begin = 0, group = 0;
    double *next = out->quadrature;
    for (uint32_t n = 1; n <= MAX_POINTS; n++) {
        if (count[n] == 0) continue;
        fill_quadrature(n, next, next + n);
        out->groups[group++] = (struct group){begin, begin + count[n], n, next, next + n};
        next += 2 * n;
        for (size_t tree = 0; tree < num_trees; tree++)
            if (points[tree] == n) out->walks[begin++] = walks[tree];
    }
    return 0;
}

static const char *fill(struct explainer *out, const struct trees *in, struct preparation *p,
                        struct walk *walks, uint32_t *points)
{
    for (uint32_t i = 0; i < out->num_columns; i++) p->nearest[i] = -1;
    for (size_t tree = 0; tree < in->num_trees; tree++) {
        uint32_t distinct;
        walks[tree].begin = p->num_splits;
        const char *problem = add_tree(p, tree, &distinct);
        walks[tree].end = p->num_splits;
        points[tree] = (distinct + 1) / 2;
        if (problem) return problem;
        if (points[tree] > MAX_POINTS) return "more than 256 different features on a path";
    }
    return NULL;
}

/* Numbers the features that splits use. */
static uint32_t number_columns(const struct trees *in, uint32_t *column)
{
    for (size_t i = 0; i < in->num_nodes; i++)
        if (in->feature[i] >= 0) column[in->feature[i]] = 1;
    uint32_t used = 0;
    for (int64_t feature = 0; feature < in->num_features; feature++)
        column[feature] = column[feature] ? used++ : UINT32_MAX;
    return used;
}

struct explainer *explainer_new(const struct trees *in, const char **problem)
{
    *problem = check(in);
    if (*problem) return NULL;
    size_t num_splits = 0, num_sets = 0;
    for (size_t i = 0; i < in->num_nodes; i++) {
        num_splits += in->feature[i] >= 0;
        num_sets += in->feature[i] >= 0 && in->members_begin[i] != in->members_end[i];
    }
    struct explainer *out = calloc(1, sizeof *out);
    uint32_t *column = calloc((size_t)in->num_features, sizeof *column);
    uint32_t *points = calloc(in->num_trees + 1, sizeof *points);
    struct walk *walks = calloc(in->num_trees + 1, sizeof *walks);
    struct passed *way = calloc(MAX_LEVEL, sizeof *way);
    uint8_t *seen = calloc(in->num_nodes + 1, 1);
    int32_t *nearest = NULL;
    if (out == NULL || column == NULL || points == NULL || walks == NULL || way == NULL ||
        seen == NULL)
        goto fail;
    out->num_features = (uint32_t)in->num_features;
    out->num_columns = number_columns(in, column);
    out->bias = in->base;
    out->splits = aligned_alloc(CACHE_LINE, (num_splits + 1) * sizeof *out->splits);
    out->walks = calloc(in->num_trees + 1, sizeof *out->walks);
    out->sets = calloc(num_sets + 1, sizeof *out->sets);
    out->members = malloc((in->num_members + 1) * sizeof *out->members);
    out->feature = calloc(out->num_columns + 1, sizeof *out->feature);
    out->floored = calloc(out->num_columns + 1, sizeof *out->floored);
    nearest = calloc(out->num_columns + 1, sizeof *nearest);
    if (out->splits == NULL || out->walks == NULL || out->sets == NULL || out->members == NULL ||
        out->feature == NULL || out->floored == NULL || nearest == NULL)
        goto fail;
    for (size_t i = 0; i < in->num_members; i++) out->members[i] = widened(in->members[i]);
    for (uint32_t feature = 0; feature < out->num_features; feature++) {
        if (column[feature] == UINT32_MAX) continue;
        out->feature[column[feature]] = feature;
        out->floored[column[feature]] = in->floored[feature];
    }
    struct preparation p = {in, out, way, seen, nearest, column, 0, 0};
    *problem = fill(out, in, &p, walks, points);
    if (*problem || make_groups(out, walks, points, in->num_trees)) goto fail;
    goto done;
fail:
    explainer_free(out);
    out = NULL;
done:
    free(column);
    free(points);
    free(walks);
    free(way);
    free(seen);
    free(nearest);
    return out;
}

void explainer_free(struct explainer *explainer)
{
    if (explainer == NULL) return;
    free(explainer->splits);
    free(explainer->walks);
    free(explainer->groups);
    free(explainer->sets);
    free(explainer->members);
    free(explainer->feature);
    free(explainer->floored);
    free(explainer->quadrature);
    free(explainer);
}
