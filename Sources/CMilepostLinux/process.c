/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "include/process.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Old headers lack the numbers; they are the same on every architecture. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static int spawn_actions(posix_spawn_file_actions_t *actions, int output, int errors, int channel) {
    int error = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(actions, output, 1);
    if (!error)
        error = posix_spawn_file_actions_adddup2(actions, errors, 2);
    if (!error)
        error = posix_spawn_file_actions_adddup2(actions, channel, 3);
    if (!error)
        error = posix_spawn_file_actions_addclosefrom_np(actions, 4);
    if (!error)
        error = posix_spawn_file_actions_addchdir_np(actions, "/");
    return error;
}

static int spawn_attributes(posix_spawnattr_t *attributes) {
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int error = posix_spawnattr_setsigdefault(attributes, &all);
    if (!error)
        error = posix_spawnattr_setsigmask(attributes, &none);
    if (!error)
        error = posix_spawnattr_setflags(
            attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
    return error;
}

int milepost_process_spawn(const char *path, const char *const *arguments, int output, int errors,
                           int channel, int *ret_pid, int *ret_pidfd) {
    /* A source that already sits on 0 to 3 would be overwritten by an earlier action. */
    int sources[3] = {output, errors, channel};
    for (int i = 0; i < 3; i++) {
        sources[i] = fcntl(sources[i], F_DUPFD_CLOEXEC, 16);
        if (sources[i] < 0) {
            int error = errno;
            while (i-- > 0)
                close(sources[i]);
            return -error;
        }
    }
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    int error = spawn_actions(&actions, sources[0], sources[1], sources[2]);
    if (!error)
        error = spawn_attributes(&attributes);
    char *const environment[] = {NULL};
    pid_t pid = -1;
    if (!error)
        error = posix_spawn(&pid, path, &actions, &attributes, (char *const *)(uintptr_t)arguments,
                            environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    for (int i = 0; i < 3; i++)
        close(sources[i]);
    if (error)
        return -error;

    /* Nobody but us reaps it, so the pid cannot have been reused yet. */
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        error = errno;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return -error;
    }
    *ret_pid = pid;
    *ret_pidfd = pidfd;
    return 0;
}

int milepost_process_kill(int pidfd) {
    return syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0 ? 0 : -errno;
}

int milepost_process_reap(int pidfd, int *ret_status, int *ret_signal) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) != 0) {
        if (errno != ECHILD)
            return -errno;
        *ret_status = -1;
        *ret_signal = -1;
        return 1;
    }
    if (info.si_pid == 0)
        return 0;
    *ret_status = info.si_code == CLD_EXITED ? info.si_status : -1;
    *ret_signal = info.si_code == CLD_EXITED ? -1 : info.si_status;
    return 1;
}

int milepost_pipe(int *ret_read, int *ret_write) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *ret_read = ends[0];
    *ret_write = ends[1];
    return 0;
}

int milepost_wakeup_create(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void milepost_wakeup_signal(int fd) {
    uint64_t one = 1;
    /* A full counter still wakes: the result does not matter. */
    if (write(fd, &one, sizeof one) < 0)
        return;
}

void milepost_wakeup_clear(int fd) {
    uint64_t count;
    if (read(fd, &count, sizeof count) < 0)
        return;
}

int milepost_poller_create(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int poller_control(int poller, int operation, int fd, uint64_t tag, int for_writing) {
    struct epoll_event event = {.events = EPOLLIN | (for_writing ? (uint32_t)EPOLLOUT : 0),
                                .data.u64 = tag};
    return epoll_ctl(poller, operation, fd, &event) == 0 ? 0 : -errno;
}

int milepost_poller_add(int poller, int fd, uint64_t tag, int for_writing) {
    return poller_control(poller, EPOLL_CTL_ADD, fd, tag, for_writing);
}

int milepost_poller_change(int poller, int fd, uint64_t tag, int for_writing) {
    return poller_control(poller, EPOLL_CTL_MOD, fd, tag, for_writing);
}

int milepost_poller_remove(int poller, int fd) {
    return poller_control(poller, EPOLL_CTL_DEL, fd, 0, 0);
}

int milepost_poller_wait(int poller, uint64_t *ret_tags, int capacity, int timeout_ms) {
    struct epoll_event events[64];
    if (capacity > 64)
        capacity = 64;
    int count = epoll_wait(poller, events, capacity, timeout_ms);
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++)
        ret_tags[i] = events[i].data.u64;
    return count;
}

struct thread_start {
    char name[16];
    void (*body)(void *context);
    void *context;
};

static void *thread_body(void *argument) {
    struct thread_start start = *(struct thread_start *)argument;
    free(argument);
    (void)pthread_setname_np(pthread_self(), start.name);
    start.body(start.context);
    return NULL;
}

int milepost_thread_start(const char *name, void (*body)(void *context), void *context) {
    struct thread_start *start = calloc(1, sizeof *start);
    if (!start)
        return -ENOMEM;
    strncpy(start->name, name, sizeof start->name - 1);
    start->body = body;
    start->context = context;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 1024 * 1024);
    sigset_t all, before;
    sigfillset(&all);
    /* A fault must still reach the crash reporter. */
    const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all,
                    &before); /* other signals belong to the daemon's own threads */
    pthread_t thread;
    int error = pthread_create(&thread, &attributes, thread_body, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error)
        free(start);
    return -error;
}

struct milepost_semaphore {
    sem_t value;
};

milepost_semaphore *milepost_semaphore_create(void) {
    milepost_semaphore *semaphore = malloc(sizeof *semaphore);
    if (semaphore && sem_init(&semaphore->value, 0, 0) != 0) {
        free(semaphore);
        return NULL;
    }
    return semaphore;
}

void milepost_semaphore_destroy(milepost_semaphore *semaphore) {
    sem_destroy(&semaphore->value);
    free(semaphore);
}

void milepost_semaphore_signal(milepost_semaphore *semaphore) {
    sem_post(&semaphore->value);
}

void milepost_semaphore_wait(milepost_semaphore *semaphore) {
    while (sem_wait(&semaphore->value) != 0 && errno == EINTR) {
    }
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t milepost_monotonic_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}
uint64_t milepost_thread_cpu_ns(void) {
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}
uint64_t milepost_wall_ns(void) {
    return clock_ns(CLOCK_REALTIME);
}

int milepost_random(void *ret_bytes, size_t length) {
    uint8_t *next = ret_bytes;
    while (length > 0) {
        ssize_t got = getrandom(next, length, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        next += got;
        length -= (size_t)got;
    }
    return 0;
}

int milepost_descriptor_close(int fd) {
    return close(fd) == 0 ? 0 : -errno;
}

int64_t milepost_descriptor_read(int fd, void *ret_bytes, size_t capacity) {
    ssize_t got;
    do
        got = read(fd, ret_bytes, capacity);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static void describe_file(const struct stat *status, struct milepost_file *ret_file) {
    ret_file->size = (uint64_t)status->st_size;
    ret_file->owner = status->st_uid;
    ret_file->mode = status->st_mode;
}

int milepost_file_open(const char *path, struct milepost_file *ret_file) {
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    struct stat status;
    if (fstat(fd, &status) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    describe_file(&status, ret_file);
    return fd;
}

int milepost_folder_inspect(const char *path, struct milepost_file *ret_file) {
    struct stat status;
    if (stat(path, &status) != 0)
        return -errno;
    if (!S_ISDIR(status.st_mode))
        return -ENOTDIR;
    describe_file(&status, ret_file);
    return 0;
}

void *milepost_library_open(const char *path, char *ret_error, size_t capacity) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library && capacity > 0) {
        const char *error = dlerror();
        strncpy(ret_error, error ? error : "no reason given", capacity - 1);
        ret_error[capacity - 1] = 0;
    }
    return library;
}

void *milepost_library_symbol(void *library, const char *name) {
    return dlsym(library, name);
}

int milepost_process_forbid_dumps(void) {
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0)
        return -errno;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : -errno;
}
