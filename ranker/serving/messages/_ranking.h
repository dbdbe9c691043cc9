/* Orders candidates by their scores. */

#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "A score may be NaN: build without -ffast-math and its like"
#endif

/* The best, best first, NaN last, equal scores in the order of candidates: keys whose lower half is
 * the candidate's number.
 *
 * scores: float32, as many as `count`, less than 2^31; they need not be aligned.
 * best: how many are wanted, at most `count`.
 * memory: for 2 * count keys; the result is within it.
 */
uint64_t *rank(const char *scores, size_t count, size_t best, uint64_t *memory);
