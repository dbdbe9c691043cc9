/* Orders candidates: a merge sort, or, for few of many, a selection. */

#include "_ranking.h"

#include <string.h>

enum {
    SORTED_BY_INSERTION = 16, /* so many at a time, and then they are merged */
    MAX_SELECTED = 64,        /* the best of many are kept in order up to so many, and not sorted */
};

/* Ascending keys are descending scores, NaN last, and equal scores in the order of candidates. */
static uint64_t key_of(float score, uint32_t candidate)
{
    uint32_t bits;
    score += 0.0f; /* -0 becomes 0: they are equal */
    memcpy(&bits, &score, sizeof bits);
    uint32_t descending = score != score ? UINT32_MAX : bits >> 31 ? bits : ~(bits | 1u << 31);
    return (uint64_t)descending << 32 | candidate;
}

/* Puts a key where it belongs among `count` ascending ones. */
static void insert(uint64_t *keys, size_t count, uint64_t key)
{
    while (count > 0 && keys[count - 1] > key) {
        keys[count] = keys[count - 1];
        count--;
    }
    keys[count] = key;
}

/* Sorts by merging; returns where the keys are then, which may be the spare memory. */
static uint64_t *sorted(uint64_t *keys, uint64_t *spare, size_t count)
{
    for (size_t begin = 0; begin < count; begin += SORTED_BY_INSERTION)
        for (size_t i = 1; i < SORTED_BY_INSERTION && begin + i < count; i++)
            insert(keys + begin, i, keys[begin + i]);
    for (size_t run = SORTED_BY_INSERTION; run < count; run *= 2) {
        for (size_t begin = 0; begin < count; begin += 2 * run) {
            size_t middle = begin + run < count ? begin + run : count;
            size_t end = middle + run < count ? middle + run : count;
            size_t left = begin, right = middle;
            for (size_t i = begin; i < end; i++) {
                int from_left = right >= end || (left < middle && keys[left] < keys[right]);
                spare[i] = keys[from_left ? left : right];
                left += (size_t)from_left;
                right += (size_t)!from_left;
            }
        }
        uint64_t *other = keys;
        keys = spare;
        spare = other;
    }
    return keys;
}

uint64_t *rank(const char *scores, size_t count, size_t best, uint64_t *memory)
{
    size_t kept = 0;
    int select = best <= MAX_SELECTED && best < count;
    for (size_t i = 0; i < count; i++) {
        float score;
        memcpy(&score, scores + i * sizeof score, sizeof score);
        uint64_t key = key_of(score, (uint32_t)i);
        if (!select)
            memory[i] = key;
        else if (kept < best)
            insert(memory, kept++, key);
        else if (key < memory[best - 1])
            insert(memory, best - 1, key);
    }
    return select ? memory : sorted(memory, memory + count, count);
}
