/* Helpers wait for a job; whoever is free, the caller too, takes its next piece of rows.
 *
 * A helper that wakes up late, or whose core has other work, holds nobody up: the caller
 * withdraws the job when all pieces are taken, and waits only for those who have begun.
 */

#define _GNU_SOURCE /* for Linux's affinity */

#include "_simd_crew.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    PIECES_PER_THREAD = 16, /* so that who is done first waits for a 16th of the time or less */
    VECTOR_ROWS = 64,
    SPIN_NS = 30000, /* about what sleeping and waking up takes; whoever waits longer sleeps */
};

struct job {
    score_rows *score;
    const struct forest *forest;
    const struct block *blocks;
    float *scores;
    size_t count, piece; /* rows */
    atomic_size_t taken; /* rows; may exceed count */
    atomic_int failed;
};

struct crew {
    pid_t process;        /* where the helpers run */
    atomic_flag in_use;   /* by one caller */
    int core;             /* which the helpers keep off; -1: none */
    pthread_mutex_t lock; /* over what follows; who spins reads the atomics without */
    pthread_cond_t posted, done;
    struct job *job;      /* NULL: none to begin */
    atomic_uint number;   /* changes with every job */
    atomic_uint working;  /* helpers who have begun */
    int stop;
    size_t size; /* helpers */
    pthread_t helpers[];
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause(); /* the core's other hardware thread may use it */
#endif
}

static void work(struct job *job)
{
    size_t begin;
    while ((begin = atomic_fetch_add(&job->taken, job->piece)) < job->count) {
        size_t left = job->count - begin, size = left < job->piece ? left : job->piece;
        if (job->score(job->forest, job->blocks, begin, size, job->scores + begin))
            job->failed = -1;
    }
}

static void *help(void *argument)
{
    struct crew *crew = argument;
    for (unsigned seen = 0;;) {
        int64_t until = now_ns() + SPIN_NS;
        while (atomic_load(&crew->number) == seen && now_ns() < until) relax();
        pthread_mutex_lock(&crew->lock);
        while (crew->number == seen) pthread_cond_wait(&crew->posted, &crew->lock);
        seen = crew->number;
        struct job *job = crew->job;
        if (job != NULL) crew->working++;
        int stop = crew->stop;
        pthread_mutex_unlock(&crew->lock);
        if (stop) return NULL;
        if (job == NULL) continue;
        work(job);
        pthread_mutex_lock(&crew->lock);
        if (--crew->working == 0) pthread_cond_signal(&crew->done);
        pthread_mutex_unlock(&crew->lock);
    }
}

/* Keeps the helpers off the caller's core. In a virtual machine Linux was seen to wake a helper on
 * the core that the caller is using even though the other one sleeps; there it is of no use until
 * the cores are balanced next, milliseconds later. */
static void keep_apart(struct crew *crew)
{
#if defined(__linux__)
    int core = sched_getcpu();
    if (core < 0 || core == crew->core) return;
    crew->core = core;
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) || CPU_COUNT(&cores) < 2) return;
    CPU_CLR((size_t)core, &cores);
    for (size_t i = 0; i < crew->size; i++)
        pthread_setaffinity_np(crew->helpers[i], sizeof cores, &cores); /* if it fails: slower */
#else
    (void)crew;
#endif
}

static void post(struct crew *crew, struct job *job, int stop)
{
    pthread_mutex_lock(&crew->lock);
    crew->job = job;
    crew->stop = stop;
    crew->number++;
    pthread_mutex_unlock(&crew->lock);
    pthread_cond_broadcast(&crew->posted);
}

static void withdraw(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->job = NULL;
    pthread_mutex_unlock(&crew->lock);
    int64_t until = now_ns() + SPIN_NS;
    while (atomic_load(&crew->working) > 0 && now_ns() < until) relax();
    pthread_mutex_lock(&crew->lock);
    while (crew->working > 0) pthread_cond_wait(&crew->done, &crew->lock);
    pthread_mutex_unlock(&crew->lock);
}

int crew_score(struct crew *crew, score_rows *score, const struct forest *forest,
               const struct block *blocks, size_t count, float *scores)
{
    if (crew->process != getpid() || atomic_flag_test_and_set(&crew->in_use))
        return score(forest, blocks, 0, count, scores);
    size_t piece = count / (PIECES_PER_THREAD * (crew->size + 1)) / VECTOR_ROWS * VECTOR_ROWS;
    struct job job = {score, forest, blocks, scores, count, piece ? piece : VECTOR_ROWS, 0, 0};
    keep_apart(crew);
    post(crew, &job, 0);
    work(&job);
    withdraw(crew);
    atomic_flag_clear(&crew->in_use);
    return job.failed;
}

struct crew *crew_new(size_t helpers)
{
    struct crew *crew = calloc(1, sizeof *crew + helpers * sizeof *crew->helpers);
    if (crew == NULL) return NULL;
    crew->process = getpid();
    crew->core = -1;
    atomic_flag_clear(&crew->in_use);
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->posted, NULL);
    pthread_cond_init(&crew->done, NULL);
    sigset_t all, before; /* signals are for others */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (crew->size < helpers &&
           pthread_create(&crew->helpers[crew->size], NULL, help, crew) == 0)
        crew->size++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (crew->size == helpers) return crew;
    crew_free(crew);
    return NULL;
}

void crew_free(struct crew *crew)
{
    if (crew == NULL) return;
    if (crew->process == getpid()) {
        post(crew, NULL, 1);
        while (crew->size > 0) pthread_join(crew->helpers[--crew->size], NULL);
    }
    free(crew); /* its lock is not destroyed: after a fork, who holds it may be gone */
}
