/* SPDX-License-Identifier: Apache-2.0
 *
 * One check, one process. Results go through memfds, so that a child which writes without end fills
 * memory that is bounded by its file-size limit and no pipe that somebody must drain.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "include/CMilepostProbe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* Bytes of any one file that a check writes: twice the largest frame to a worker. */
#define MOST_WRITTEN (64u << 20)

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int start(const char *path, const char *const *arguments, const char *const *environment,
                 int result, int output, pid_t *ret_pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    int error = posix_spawn_file_actions_init(&actions);
    if (error)
        return -error;
    error = posix_spawnattr_init(&attributes);
    if (!error) {
        posix_spawnattr_setpgroup(&attributes, 0);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
        error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        if (!error)
            error = posix_spawn_file_actions_adddup2(&actions, output, 1);
        if (!error)
            error = posix_spawn_file_actions_adddup2(&actions, output, 2);
        if (!error)
            error = posix_spawn_file_actions_adddup2(&actions, result, 3);
        if (!error)
            error = posix_spawn(ret_pid, path, &actions, &attributes,
                                (char *const *)(uintptr_t)arguments,
                                (char *const *)(uintptr_t)environment);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return -error;
}

/* Waits until the child has ended or the limit has passed; the child is left for waitpid. */
static int await_end(pid_t pid, uint64_t limit_ms) {
    int descriptor = (int)syscall(SYS_pidfd_open, pid, 0);
    if (descriptor < 0)
        return -errno;
    struct pollfd wait = {.fd = descriptor, .events = POLLIN};
    uint64_t last = now_ns(), spent = 0, queued = mp_waited_ns(pid);
    int ready = 0;
    while (ready == 0 && spent < limit_ms * 1000000u) {
        ready = poll(&wait, 1, 200);
        if (ready < 0 && errno == EINTR)
            ready = 0;
        uint64_t now = now_ns(), passed = now - last, waited = mp_waited_ns(pid);
        uint64_t left_out = waited > queued ? waited - queued : 0;
        spent += passed - (left_out < passed * 9 / 10 ? left_out : passed * 9 / 10);
        last = now;
        queued = waited;
    }
    close(descriptor);
    return ready > 0;
}

static uint64_t collect(int descriptor, uint8_t *ret_bytes, size_t capacity) {
    size_t length = 0;
    while (length < capacity) {
        ssize_t got = pread(descriptor, ret_bytes + length, capacity - length, (off_t)length);
        if (got <= 0)
            break;
        length += (size_t)got;
    }
    return length;
}

/* At a high number: dup2 onto itself would keep close-on-exec. */
static int in_memory(const char *name) {
    int low = memfd_create(name, MFD_CLOEXEC);
    if (low < 0)
        return -1;
    int high = fcntl(low, F_DUPFD_CLOEXEC, 64);
    int error = errno;
    close(low);
    errno = error;
    return high;
}

int mp_child_run(const char *path, const char *const *arguments, const char *const *environment,
                 uint64_t limit_ms, uint8_t *ret_result, size_t result_capacity,
                 uint8_t *ret_output, size_t output_capacity, mp_child *ret_child) {
    int result = in_memory("result");
    if (result < 0)
        return -errno;
    int output = in_memory("output");
    if (output < 0) {
        int error = errno;
        close(result);
        return -error;
    }
    /* Both outputs share one offset only when they append. */
    fcntl(output, F_SETFL, O_APPEND);
    memset(ret_child, 0, sizeof *ret_child);
    uint64_t began = now_ns();
    pid_t pid = 0;
    int error = start(path, arguments, environment, result, output, &pid);
    if (error == 0) {
        /* Past it SIGXFSZ ends the child. One that has ended already needs no limit. */
        struct rlimit most = {MOST_WRITTEN, MOST_WRITTEN};
        (void)prlimit(pid, RLIMIT_FSIZE, &most, NULL);
        ret_child->timed_out = await_end(pid, limit_ms) != 1;
        kill(-pid, SIGKILL);
        int status = 0;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
        ret_child->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        ret_child->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        ret_child->duration_ns = now_ns() - began;
        ret_child->result_len = collect(result, ret_result, result_capacity);
        ret_child->output_len = collect(output, ret_output, output_capacity);
    }
    close(result);
    close(output);
    return error;
}

int mp_child_kill(int32_t pid) {
    return pid > 1 && kill(pid, SIGKILL) == 0 ? 0 : -errno;
}
