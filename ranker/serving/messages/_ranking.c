/* Orders candidates: a radix sort, or, for few candidates, or few of many, insertion. */

#include "_ranking.h"

#include <string.h>

enum {
    FEW = 32,          /* candidates that are sorted by insertion */
    MAX_SELECTED = 24, /* the best of many are kept in order up to so many, and not sorted */
    DIGITS = 4,        /* of a score */
    DIGIT_VALUES = 256,
};

/* Ascending keys are descending scores, NaN last, and equal scores in the order of candidates. */
static uint64_t key_of(float score, uint32_t candidate)
{
    uint32_t bits;
    score += 0.0f; /* -0 becomes 0: they are equal */
    memcpy(&bits, &score, sizeof bits);
    /* Signs are as good as random, and a branch on them would be guessed wrong half of the time. */
    uint32_t if_positive = (bits >> 31) - 1;
    uint32_t descending = bits ^ (if_positive & INT32_MAX);
    if (score != score) descending = UINT32_MAX;
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

static size_t digit_of(uint64_t key, int digit)
{
    return key >> (32 + 8 * digit) & (DIGIT_VALUES - 1);
}

/* Sorts by the scores' digits, last to first; each step keeps the order of the one before. What
 * has equal scores thus stays in the order of candidates. Returns where the keys are then, which
 * may be the spare memory. Source: Knuth, The Art of Computer Programming, volume 3, 5.2.5. */
static uint64_t *sorted(uint64_t *keys, uint64_t *spare, size_t count)
{
    uint32_t places[DIGITS][DIGIT_VALUES] = {{0}};
    for (size_t i = 0; i < count; i++)
        for (int digit = 0; digit < DIGITS; digit++) places[digit][digit_of(keys[i], digit)]++;
    for (int digit = 0; digit < DIGITS; digit++) {
        uint32_t *place = places[digit], before = 0;
        if (place[digit_of(keys[0], digit)] == count) continue; /* all have the same */
        for (int value = 0; value < DIGIT_VALUES; value++) {
            uint32_t here = place[value];
            place[value] = before;
            before += here;
        }
        for (size_t i = 0; i < count; i++) spare[place[digit_of(keys[i], digit)]++] = keys[i];
        uint64_t *other = keys;
        keys = spare;
        spare = other;
    }
    return keys;
}

uint64_t *rank(const char *scores, size_t count, size_t best, uint64_t *memory)
{
    size_t kept = 0;
    int select = count <= FEW || (best <= MAX_SELECTED && best < count);
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
