/* The walk of one instruction set; included by _simd_shap.c once for each, with these defined:
 * PATH, VECTOR of doubles, MASK, and operations on them. */

#define INLINE static inline __attribute__((always_inline))

enum { PATH(WIDTH) = sizeof(VECTOR) / sizeof(double) };

/* At a split, on the way down. Finds `factor` and `effect`, and what the children have of
 * `down`; where both are leaves, the sum over them. */
INLINE void PATH(visit)(const struct split *split, const double *x, const struct workplace *place,
                        struct level *at, double *found, VECTOR *up, const int kind,
                        const int again, const int vectors)
{
    const VECTOR threshold = SPLAT(split->threshold), sign = SPLAT(split->negated ? -1.0 : 1.0);
    const VECTOR if_met = SPLAT(split->if_met), if_not = SPLAT(split->if_not);
    const VECTOR share = SPLAT(split->share);
    const struct level *above = again ? place->levels + split->level_above : at;
    for (int i = 0; i < vectors; i++) {
        const int lane = i * PATH(WIDTH);
        const MASK met = LESS(MUL(LOAD(x + lane), sign), threshold);
        VECTOR agreement = SELECT(met, if_met, if_not);
        VECTOR step = LOAD(place->point + lane), strength = LOAD(at->down + lane);
        MASK alive = ALL_SET;
        if (again) {
            const VECTOR share_above = SPLAT(split->share_above);
            alive = LOAD_MASK(above->taken + lane);
            VECTOR scale = DIV(SPLAT(1), FMA(LOAD(place->rest + lane), share_above, step));
            agreement = KEEP(alive, agreement);
            step = MUL(step, scale);
            strength = MUL(strength, MUL(share_above, MUL(scale, scale)));
        }
        const VECTOR factor = FMA(step, agreement, share);
        const VECTOR effect = MUL(strength, agreement);
        if (kind == BOTH_LEAVES) {
            const VECTOR difference = SPLAT((double)split->first - split->second);
            up[i] = FMA(factor, difference, SPLAT(split->second));
            STORE(found + lane, FMA(effect, difference, LOAD(found + lane)));
            continue;
        }
        const VECTOR down = LOAD(at->down + lane);
        STORE(at->factor + lane, factor);
        STORE(at->effect + lane, effect);
        if (split->repeated) {
            MASK first = met;
            if (split->if_met < split->if_not) first = AND_NOT_MASK(ALL_SET, met);
            STORE_MASK(at->alive + lane, alive);
            STORE_MASK(at->taken + lane, kind == FIRST_LEAF ? AND_NOT_MASK(alive, first)
                                                            : AND_MASK(alive, first));
        }
        if (kind == FIRST_LEAF) {
            STORE(at->up + lane, SPLAT(split->first));
            STORE(at[1].down + lane, FNMA(down, factor, down));
        } else {
            STORE(at[1].down + lane, MUL(down, factor));
        }
    }
    at->column = split->column;
    at->repeated = split->repeated;
}

/* Back at a split whose second child has been walked, too. */
INLINE void PATH(complete)(const struct level *at, double *found, VECTOR *up, const int vectors)
{
    for (int i = 0; i < vectors; i++) {
        const int lane = i * PATH(WIDTH);
        const VECTOR difference = SUB(LOAD(at->up + lane), up[i]);
        up[i] = FMA(LOAD(at->factor + lane), difference, up[i]);
        STORE(found + lane, FMA(LOAD(at->effect + lane), difference, LOAD(found + lane)));
    }
}

/* Back at a split whose first child has been walked, and on to the second. */
INLINE void PATH(turn)(struct level *at, const VECTOR *up, const int vectors)
{
    for (int i = 0; i < vectors; i++) {
        const int lane = i * PATH(WIDTH);
        const VECTOR down = LOAD(at->down + lane);
        STORE(at->up + lane, up[i]);
        STORE(at[1].down + lane, FNMA(down, LOAD(at->factor + lane), down));
        if (at->repeated)
            STORE_MASK(at->taken + lane,
                       AND_NOT_MASK(LOAD_MASK(at->alive + lane), LOAD_MASK(at->taken + lane)));
    }
}

INLINE void PATH(walk_tree)(const struct explainer *explainer, struct walk walk,
                            struct workplace *place, const int vectors)
{
    VECTOR up[LANES / PATH(WIDTH)];
    struct level *at = place->levels;
    for (size_t i = walk.begin; i < walk.end; i++) {
        const struct split *split = &explainer->splits[i];
        const double *x = place->columns + LANES * (size_t)split->column;
        double *found = place->contributions + LANES * (size_t)split->column;
        if (split->set) {
            fill_membership(explainer, split->set, x, place->membership);
            x = place->membership;
        }
        switch (2 * split->kind + split->again) {
        case 2 * BOTH_INNER:
            PATH(visit)(split, x, place, at++, found, up, BOTH_INNER, 0, vectors);
            continue;
        case 2 * BOTH_INNER + 1:
            PATH(visit)(split, x, place, at++, found, up, BOTH_INNER, 1, vectors);
            continue;
        case 2 * FIRST_LEAF:
            PATH(visit)(split, x, place, at++, found, up, FIRST_LEAF, 0, vectors);
            continue;
        case 2 * FIRST_LEAF + 1:
            PATH(visit)(split, x, place, at++, found, up, FIRST_LEAF, 1, vectors);
            continue;
        case 2 * BOTH_LEAVES:
            PATH(visit)(split, x, place, at, found, up, BOTH_LEAVES, 0, vectors);
            break;
        default:
            PATH(visit)(split, x, place, at, found, up, BOTH_LEAVES, 1, vectors);
            break;
        }
        for (int done = 0; done < split->ends; done++) {
            at--;
            PATH(complete)(at, place->contributions + LANES * (size_t)at->column, up, vectors);
        }
        if (at > place->levels) PATH(turn)(at - 1, up, vectors);
    }
}

INLINE void PATH(walk_group)(const struct explainer *explainer, const struct group *group,
                             struct workplace *place, const int units)
{
    const int vectors = units * LANE_UNIT / PATH(WIDTH);
    for (size_t i = group->begin; i < group->end; i++) {
        memcpy(place->levels[0].down, place->weight, sizeof place->weight);
        PATH(walk_tree)(explainer, explainer->walks[i], place, vectors);
    }
}

/* Some rows at some points, through the trees of a group. */
static void PATH(explain_lanes)(const struct explainer *explainer, const struct group *group,
                                const char *const *row, const struct lane *lane, size_t lanes,
                                struct workplace *place)
{
    for (size_t i = 0; i < LANES; i++) { /* a lane that is not in use weighs nothing */
        place->point[i] = i < lanes ? group->point[lane[i].point] : 0.5;
        place->rest[i] = 1 - place->point[i];
        place->weight[i] = i < lanes ? group->weight[lane[i].point] : 0;
    }
    fill_columns(explainer, row, lane, lanes, place->columns);
    memset(place->contributions, 0, sizeof(double) * LANES * explainer->num_columns);
    switch ((lanes + LANE_UNIT - 1) / LANE_UNIT) {
    case 1: PATH(walk_group)(explainer, group, place, 1); break;
    case 2: PATH(walk_group)(explainer, group, place, 2); break;
    case 3: PATH(walk_group)(explainer, group, place, 3); break;
    default: PATH(walk_group)(explainer, group, place, 4); break;
    }
    add_lanes(explainer, place, lane, lanes);
}

int PATH(explain)(const struct explainer *explainer, const struct block *blocks, size_t rows,
                  float *contributions)
{
    const size_t columns = explainer->num_columns, width = explainer->num_features + (size_t)1;
    struct workplace *place = workplace_new(explainer);
    if (place == NULL) return -1;
    struct source source = {blocks, 0};
    for (size_t done = 0; done < rows;) {
        const char *row[LANES];
        struct lane lane[LANES];
        size_t count = rows - done < LANES ? rows - done : LANES;
        next_rows(&source, count, explainer->num_features * sizeof(float), row);
        memset(place->sums, 0, sizeof(double) * count * columns);
        for (uint32_t g = 0; g < explainer->num_groups; g++) {
            const struct group *group = &explainer->groups[g];
            for (size_t pair = 0; pair < count * group->points;) {
                size_t lanes = 0;
                for (; lanes < LANES && pair < count * group->points; lanes++, pair++)
                    lane[lanes] = (struct lane){pair / group->points, pair % group->points};
                PATH(explain_lanes)(explainer, group, row, lane, lanes, place);
            }
        }
        for (size_t r = 0; r < count; r++)
            write_row(explainer, place->sums + r * columns, contributions + (done + r) * width);
        done += count;
    }
    free(place);
    return 0;
}

#undef INLINE
#undef PATH
#undef VECTOR
#undef MASK
#undef SPLAT
#undef LOAD
#undef STORE
#undef SUB
#undef MUL
#undef DIV
#undef FMA
#undef FNMA
#undef LESS
#undef SELECT
#undef KEEP
#undef AND_MASK
#undef AND_NOT_MASK
#undef ALL_SET
#undef LOAD_MASK
#undef STORE_MASK
