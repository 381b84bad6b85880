/* SPDX-License-Identifier: Apache-2.0
 *
 * The worker's refusals, with a witness: a seccomp filter traps the calls, a signal handler writes
 * them down and answers EPERM in the kernel's place. Opening files needs a look at the path, which
 * a filter cannot take: the handler looks and, where the sandbox would permit it, makes the call
 * itself with a mark that the filter knows.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "include/CMilepostProbe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "probe.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define ARGUMENT(context, n)                                                                       \
    ((context)->uc_mcontext.gregs[(const int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10}[n]])
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define ARGUMENT(context, n) ((context)->uc_mcontext.regs[n])
#define RESULT(context) ((context)->uc_mcontext.regs[0])
#else
#error "this architecture's registers are not known here"
#endif

#define MARK 0x4d705761u /* the sixth argument of an openat that may pass */
#define KEPT 64

static struct {
    const char *name;
    char path[120];
} seen[KEPT];
static atomic_int count;
static char own_folder[512];
static atomic_int threads_too;

static const struct {
    int number;
    const char *name;
} trapped[] = {
    {SYS_socket, "socket"},   {SYS_socketpair, "socketpair"},
    {SYS_connect, "connect"}, {SYS_bind, "bind"},
    {SYS_execve, "execve"},   {SYS_execveat, "execveat"},
    {SYS_ptrace, "ptrace"},   {SYS_unlinkat, "unlink"},
    {SYS_mkdirat, "mkdir"},   {SYS_renameat2, "rename"},
    {SYS_kill, "kill"},       {425, "io_uring_setup"},
#ifdef SYS_open
    {SYS_open, "open"},       {SYS_fork, "fork"},
    {SYS_vfork, "vfork"},     {SYS_unlink, "unlink"},
    {SYS_rename, "rename"},   {SYS_mkdir, "mkdir"},
    {SYS_creat, "creat"},
#endif
};
#define TRAPPED (sizeof trapped / sizeof *trapped)

static int begins(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

/* What Landlock gives a worker, and what the runtimes of this very process read when they start. */
static int may_read(const char *path) {
    static const char *const folders[] = {"/lib",          "/usr/lib",  "/usr/share/zoneinfo",
                                          "/dev/urandom",  "/dev/null", "/proc/self/",
                                          "/proc/cpuinfo", "/sys/",     "/etc/ld.so",
                                          "/etc/localtime"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (begins(path, folders[i]))
            return 1;
    /* The pool of threads of a Swift runtime looks at its threads' states, and ends the process
     * when it cannot; a worker answers in the kernel's place (plugin-worker/thread_facts.c). */
    if (begins(path, "/proc/")) {
        const char *rest = path + 6;
        while (*rest >= '0' && *rest <= '9')
            rest++;
        if (rest != path + 6 && strcmp(rest, "/stat") == 0)
            return 1;
    }
    return own_folder[0] && begins(path, own_folder);
}

static void note(const char *name, const char *path) {
    int at = atomic_fetch_add(&count, 1);
    if (at >= KEPT)
        return;
    seen[at].name = name;
    strncpy(seen[at].path, path, sizeof seen[at].path - 1);
}

static void refused(int number, siginfo_t *info, void *pointer) {
    ucontext_t *context = pointer;
    (void)number;
    int call = info->si_syscall;
    if (call == SYS_openat) {
        const char *path = (const char *)ARGUMENT(context, 1);
        int flags = (int)ARGUMENT(context, 2);
        if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) == 0 && may_read(path)) {
            int saved = errno;
            long opened = syscall(SYS_openat, (int)ARGUMENT(context, 0), path, flags,
                                  (int)ARGUMENT(context, 3), 0, MARK);
            RESULT(context) = opened < 0 ? -errno : opened;
            errno = saved;
            return;
        }
        note((flags & (O_WRONLY | O_RDWR | O_CREAT)) ? "open for writing" : "open", path);
        RESULT(context) = -EACCES;
        return;
    }
    const char *name = "a call";
    for (size_t i = 0; i < TRAPPED; i++)
        if (trapped[i].number == call)
            name = trapped[i].name;
    if (call == SYS_clone)
        name = atomic_load(&threads_too) ? "clone (a thread or process)" : "fork";
    int has_path = call == SYS_unlinkat || call == SYS_mkdirat;
    note(name, has_path ? (const char *)ARGUMENT(context, 1) : "");
    RESULT(context) = -EPERM;
}

static size_t build(struct sock_filter *program) {
    size_t at = 0;
#define LOAD(offset) program[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define IS(value, yes, no)                                                                         \
    program[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define ANSWER(value) program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, value)
    LOAD(offsetof(struct seccomp_data, arch));
    IS(ARCHITECTURE, 1, 0);
    ANSWER(SECCOMP_RET_KILL_PROCESS);
    LOAD(offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < TRAPPED; i++) {
        IS((uint32_t)trapped[i].number, 0, 1);
        ANSWER(SECCOMP_RET_TRAP);
    }
    /* As in the worker: a C library that hears ENOSYS falls back to clone, whose flags can be seen.
     */
    IS(435 /* clone3 */, 0, 1);
    ANSWER(SECCOMP_RET_ERRNO | ENOSYS);
    IS(SYS_openat, 0, 4);
    LOAD(offsetof(struct seccomp_data, args[5]));
    IS(MARK, 1, 0);
    ANSWER(SECCOMP_RET_TRAP);
    ANSWER(SECCOMP_RET_ALLOW);
    IS(SYS_clone, 0, 5);
    if (atomic_load(&threads_too)) {
        ANSWER(SECCOMP_RET_TRAP);
        ANSWER(SECCOMP_RET_TRAP);
        ANSWER(SECCOMP_RET_TRAP);
        ANSWER(SECCOMP_RET_TRAP);
    } else {
        LOAD(offsetof(struct seccomp_data, args[0]));
        program[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K,
                                                     0x00010000u /* CLONE_THREAD */, 1, 0);
        ANSWER(SECCOMP_RET_TRAP);
        ANSWER(SECCOMP_RET_ALLOW);
    }
    ANSWER(SECCOMP_RET_ALLOW);
    ANSWER(SECCOMP_RET_ALLOW);
    return at;
}

int mp_watch_install(const char *folder, int with_threads) {
    struct sigaction action = {.sa_sigaction = refused, .sa_flags = SA_SIGINFO | SA_NODEFER};
    strncpy(own_folder, folder ? folder : "", sizeof own_folder - 1);
    atomic_store(&count, 0);
    atomic_store(&threads_too, with_threads);
    if (sigaction(SIGSYS, &action, NULL) != 0)
        return -errno;
    struct sock_filter program[32 + 2 * TRAPPED];
    struct sock_fprog filter = {.len = (unsigned short)build(program), .filter = program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    /* The constructors' watch concerns one thread; the other one everybody. */
    unsigned flags = with_threads ? 0 : SECCOMP_FILTER_FLAG_TSYNC;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter) == 0 ? 0 : -errno;
}

int mp_watch_start(const char *folder) {
    return mp_watch_install(folder, 0);
}

int mp_watch_report(char *ret_text, size_t capacity) {
    int total = atomic_load(&count);
    size_t used = 0;
    if (capacity)
        ret_text[0] = 0;
    for (int i = 0; i < total && i < KEPT && used + 160 < capacity; i++)
        used += (size_t)snprintf(ret_text + used, capacity - used, "%s%s%s\n", seen[i].name,
                                 seen[i].path[0] ? " " : "", seen[i].path);
    return total;
}
