/* Has a crew share batches whose scores are their rows' numbers; exits with 0 if all is right.
 * Meant to be run under ThreadSanitizer. */

#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "_simd_crew.h"

enum { ROWS = 5000, CALLS = 300, CALLERS = 3, HELPERS = 2 };

static pthread_t main_thread;
static atomic_int others;      /* pieces that main_thread did not score */
static atomic_int fail_others; /* have those fail, and main_thread wait for one */

static void must(int holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void pause_ns(long ns)
{
    nanosleep(&(struct timespec){0, ns}, NULL);
}

static int count_rows(const struct forest *forest, const struct block *blocks, size_t begin,
                      size_t count, float *scores)
{
    (void)forest;
    must(begin + count <= blocks->rows, "beyond the rows");
    for (size_t i = 0; i < count; i++) scores[i] += (float)(begin + i);
    int other = !pthread_equal(pthread_self(), main_thread);
    others += other;
    while (fail_others && !other && others == 0) pause_ns(100000);
    return fail_others && other ? -1 : 0;
}

/* Scores one batch, and checks that each row was scored, once. */
static int score(struct crew *crew, size_t rows)
{
    struct block block = {NULL, rows};
    float *scores = calloc(rows, sizeof *scores);
    must(scores != NULL, "no memory");
    int failed = crew_score(crew, count_rows, NULL, &block, rows, scores);
    for (size_t i = 0; i < rows; i++) must(scores[i] == (float)i, "a row's score is wrong");
    free(scores);
    return failed;
}

static void *score_often(void *crew)
{
    for (size_t i = 0; i < CALLS; i++) {
        must(score(crew, ROWS - i) == 0, "failed");
        if (i % 10 == 0) pause_ns(200000); /* the helpers sleep meanwhile */
    }
    return NULL;
}

static void score_in_child(struct crew *crew)
{
    pid_t child = fork();
    must(child >= 0, "can't fork");
    if (child == 0) {
        alarm(20);
        main_thread = pthread_self();
        others = 0;
        must(score(crew, ROWS) == 0 && others == 0, "a child was helped");
        crew_free(crew);
        _exit(0);
    }
    int status;
    must(waitpid(child, &status, 0) == child && status == 0, "the child failed");
}

int main(void)
{
    main_thread = pthread_self();
    struct crew *crew = crew_new(HELPERS), *unused = crew_new(HELPERS);
    must(crew != NULL && unused != NULL, "no memory");
    crew_free(unused);

    pthread_t callers[CALLERS];
    for (int i = 0; i < CALLERS; i++)
        must(pthread_create(&callers[i], NULL, score_often, crew) == 0, "no thread");
    score_often(crew);
    for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], NULL);

    others = 0;
    fail_others = 1;
    must(score(crew, ROWS) == -1, "a helper's failure is lost");
    fail_others = 0;
    must(score(crew, ROWS) == 0, "a failure stays");
    score_in_child(crew);
    crew_free(crew);
    return 0;
}
