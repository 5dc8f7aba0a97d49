/* The clock of a sensor under test: all its processes load this with LD_PRELOAD, and it alone is set.

   They share a folder: FAULTS_CLOCK names it, and in a container, whose variables are the bundle's,
   it is config/clock of the home. Its file "set" says how many times the clock was set, whether it
   counts as synchronised, and for each time it was set since when (true time) and by how much it is
   off. "boot_id" stands for the id of the boot. Times of files are shown as the clock had them when
   they were written. The monotonic clock is left alone. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000L
#define SETTINGS 1000
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

struct shared {
    long count, is_synchronised;
    struct { long since, off; } set[SETTINGS];
};

static const struct shared *shared;
static char boot_id[PATH_MAX];

__attribute__((constructor)) static void find(void) {
    const char *named = getenv("FAULTS_CLOCK"), *home = getenv("ACOUPI_HOME");
    const char *folder = named ? named : home ? home : "";
    const char *below = named ? "" : "/config/clock";
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s/set", folder, below);
    snprintf(boot_id, sizeof boot_id, "%s%s/boot_id", folder, below);
    long file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof(struct shared), PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED)
        shared = found;
    close(file);
}

static void shift(struct timespec *time, long by) {
    long sum = time->tv_sec * SECOND + time->tv_nsec + by;
    time->tv_sec = sum / SECOND;
    time->tv_nsec = sum % SECOND;
}

static long off_now(void) {
    return shared && shared->count ? shared->set[shared->count - 1].off : 0;
}

static void show(struct timespec *written) {
    long then = written->tv_sec * SECOND + written->tv_nsec, one = shared ? shared->count : 0;
    while (one > 0 && shared->set[one - 1].since > then)
        one--;
    if (one > 0)
        shift(written, shared->set[one - 1].off);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = syscall(SYS_clock_gettime, clock, time);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        shift(time, off_now());
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec time;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place)
        *place = now.tv_sec;
    return now.tv_sec;
}

int adjtimex(struct timex *state) {
    int said = syscall(SYS_adjtimex, state);
    if (!shared || said < 0)
        return said;
    state->maxerror = state->esterror = 1000;
    state->status &= ~STA_UNSYNC;
    if (shared->is_synchronised)
        return TIME_OK;
    state->status |= STA_UNSYNC;
    return TIME_ERROR;
}

int fstatat(int folder, const char *restrict path, struct stat *restrict found, int flags) {
    int failed = syscall(SYS_newfstatat, folder, path, found, flags);
    if (!failed) {
        show(&found->st_mtim);
        show(&found->st_ctim);
        show(&found->st_atim);
    }
    return failed;
}

int stat(const char *restrict path, struct stat *restrict found) {
    return fstatat(AT_FDCWD, path, found, 0);
}

int lstat(const char *restrict path, struct stat *restrict found) {
    return fstatat(AT_FDCWD, path, found, AT_SYMLINK_NOFOLLOW);
}

int fstat(int file, struct stat *found) {
    return fstatat(file, "", found, AT_EMPTY_PATH);
}

int fstatat64(int, const char *restrict, struct stat64 *restrict, int) __attribute__((alias("fstatat")));
int stat64(const char *restrict, struct stat64 *restrict) __attribute__((alias("stat")));
int lstat64(const char *restrict, struct stat64 *restrict) __attribute__((alias("lstat")));
int fstat64(int, struct stat64 *) __attribute__((alias("fstat")));

int openat(int folder, const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return syscall(SYS_openat, folder, shared && !strcmp(path, BOOT_ID) ? boot_id : path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return openat(AT_FDCWD, path, flags, mode);
}

int open64(const char *, int, ...) __attribute__((alias("open")));
int openat64(int, const char *, int, ...) __attribute__((alias("openat")));
