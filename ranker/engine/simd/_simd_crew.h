/* Threads that help with one large batch at a time. */
#ifndef RANKER_SIMD_CREW_H
#define RANKER_SIMD_CREW_H

#include "_simd_forest.h"

struct crew;

/* A crew of so many helpers, who sleep until there is a batch. Returns NULL if there is no memory
 * for them or the system starts no more threads. */
struct crew *crew_new(size_t helpers);

/* Ends the helpers. Nobody may be scoring. */
void crew_free(struct crew *crew);

/* Scores all rows as `score` does, with help. Threads may call at the same time: one is helped,
 * the others score alone, as do processes forked since crew_new(). */
int crew_score(struct crew *crew, score_rows *score, const struct forest *forest,
               const struct block *blocks, size_t count, float *scores);

#endif
