/* A wall clock that is wrong: for LD_PRELOAD.
 *
 * CLOCK_REALTIME goes by so many seconds too far as the eight bytes of the file $CHAOS_CLOCK say.
 * The kernel knows nothing of it. So deadlines on that clock, which waits hand to the kernel, are
 * set right; waits that have begun when the clock jumps last as long as they would have.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset;

/* Deadlines after it can only be ones on the wall clock: others count from the machine's start. */
#define WALL_SECONDS 1000000000

/* What the name means in the library that comes after this one. */
#define REAL(function)                                                                             \
    static typeof(&function) real;                                                                 \
    if (!real) real = (typeof(&function))dlsym(RTLD_NEXT, #function)

__attribute__((constructor)) static void map_offset(void) {
    const char *path = getenv("CHAOS_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *found = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    if (found == MAP_FAILED) abort(); /* with a right clock the fault would be none */
    offset = found;
}

static int64_t seconds_off(void) { return offset ? *offset : 0; }

static struct timespec kernels(const struct timespec *deadline) {
    struct timespec right = *deadline;
    if (right.tv_sec > WALL_SECONDS) right.tv_sec -= seconds_off();
    return right;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += seconds_off();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec found;
    int failed = clock_gettime(CLOCK_REALTIME, &found);
    if (!failed) *now = (struct timeval){found.tv_sec, found.tv_nsec / 1000};
    return failed;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline) {
    static typeof(&pthread_cond_timedwait) real;
    /* glibc has an older one of that name on some processors. */
    if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec right = kernels(deadline);
    return real(condition, mutex, &right);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict deadline) {
    REAL(sem_timedwait);
    struct timespec right = kernels(deadline);
    return real(semaphore, &right);
}

long syscall(long number, ...) {
    REAL(syscall);
    long given[6];
    va_list all;
    va_start(all, number);
    for (int i = 0; i < 6; i++) given[i] = va_arg(all, long);
    va_end(all);
    struct timespec right;
    if (number == SYS_futex && (given[1] & FUTEX_CLOCK_REALTIME) && given[3]) {
        right = kernels((const struct timespec *)given[3]);
        given[3] = (long)&right;
    }
    return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
