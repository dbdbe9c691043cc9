/* Contributions of features to a forest's scores; _simd_shap.c says how they are computed. */
#ifndef RANKER_SIMD_SHAP_H
#define RANKER_SIMD_SHAP_H

#include <math.h>

#include "_simd_forest.h"

enum {
    LANES = 32,       /* rows times points that are walked together */
    LANE_UNIT = 8,    /* lanes in use are a multiple of it */
    MAX_LEVEL = 4096, /* splits on a path */
    MAX_POINTS = 128, /* of a quadrature, which is exact for twice as many features on a path */
};

enum kind {
    BOTH_INNER,
    FIRST_LEAF,
    BOTH_LEAVES,
};

/* One split. Its children are called first and second: a leaf comes first, if one of the two
 * is one. A row meets the condition if x < threshold (-x, if negated), which NaN never does;
 * or, where there is a set, if x is in it. */
struct split {
    double threshold;
    double if_met, if_not; /* 1 if that leads to the first child, else 0; less `share` */
    double share;          /* of the cover, that of the first child */
    double share_above;    /* the product of the shares taken at the splits above on the feature */
    float first, second;   /* leaves' values */
    uint32_t column;       /* the feature, among those that the forest uses */
    uint32_t set;          /* which set, from 1 on; 0: none */
    uint16_t level_above;  /* where the nearest split above on the same feature is */
    uint16_t ends;         /* how many splits above are complete with this one */
    uint8_t kind;
    uint8_t negated;
    uint8_t again;    /* whether there is a split above on the same feature */
    uint8_t repeated; /* whether there is one below */
};
_Static_assert(sizeof(struct split) == CACHE_LINE, "a split fills a cache line");

/* A set of categories. */
struct category_set {
    size_t begin, end;
    uint8_t missing; /* whether NaN counts as a member */
};

/* The splits of one tree, in the order of a walk: a split, its first child, its second one. */
struct walk {
    size_t begin, end;
};

/* Trees that need the same number of points. */
struct group {
    size_t begin, end; /* among the walks */
    size_t points;
    const double *point, *weight;
};

struct explainer {
    uint32_t num_features, num_columns, num_groups;
    uint32_t max_level;
    double bias;
    struct split *splits;
    struct walk *walks;
    struct group *groups;
    struct category_set *sets;
    double *members;
    uint32_t *feature; /* [num_columns] */
    uint8_t *floored;  /* [num_columns] */
    double *quadrature;
};

/* The arrays of forest.Forest, by the same names; counts are of elements. */
struct trees {
    int64_t num_features;
    double base;
    const int32_t *roots, *feature, *left, *members_begin, *members_end;
    const float *threshold, *members, *cover;
    const uint8_t *missing_left, *floored;
    size_t num_trees, num_nodes, num_members, num_floored;
};

/* Prepares a forest. Everything that memory safety depends on is checked here, whatever was
 * checked before. Returns NULL and sets *problem, which is static text, if the trees are
 * unsound, or to NULL if memory is short. */
struct explainer *explainer_new(const struct trees *trees, const char **problem);
void explainer_free(struct explainer *explainer);

/* Writes num_features contributions and the bias for each row of the blocks. Returns 0, or -1
 * if there is no memory to work in. */
typedef int explain_rows(const struct explainer *explainer, const struct block *blocks,
                         size_t rows, float *contributions);

explain_rows explain_portable;
#if defined(__x86_64__)
explain_rows explain_avx2;
explain_rows explain_avx512;
#endif

/* A float32 as a double, so that above each there is another, even above infinity. */
static inline double widened(float x)
{
    return isinf(x) ? copysign(1e300, x) : x;
}

#endif
