/* SPDX-License-Identifier: Apache-2.0
 *
 * The two system-call filters. What is not listed answers ENOSYS, so that libraries take their
 * fall-backs (EPERM from clone3, for one, would break thread start).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define WORKER_ARCHITECTURE AUDIT_ARCH_X86_64
#define X32_BIT 0x40000000u
#elif defined(__aarch64__)
#define WORKER_ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "no system-call filter for this architecture yet"
#endif

#define FILTER_MAX 512

struct program {
    struct sock_filter code[FILTER_MAX];
    unsigned short count;
};

static void emit(struct program *program, struct sock_filter instruction) {
    if (program->count < FILTER_MAX)
        program->code[program->count++] = instruction;
}

#define STATEMENT(code, k) ((struct sock_filter)BPF_STMT(code, k))
#define JUMP(code, k, yes, no) ((struct sock_filter)BPF_JUMP(code, k, yes, no))
#define LOAD(offset) STATEMENT(BPF_LD | BPF_W | BPF_ABS, offset)
#define NUMBER offsetof(struct seccomp_data, nr)
/* The low half: both architectures are little-endian, and the arguments tested here are 32 bits
 * wide. */
#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + 8 * (n))
#define RETURN(value) STATEMENT(BPF_RET | BPF_K, value)
#define REFUSE(error) RETURN(SECCOMP_RET_ERRNO | (error))
#define ALLOW RETURN(SECCOMP_RET_ALLOW)

static void begin(struct program *program) {
    emit(program, LOAD(offsetof(struct seccomp_data, arch)));
    emit(program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, WORKER_ARCHITECTURE, 1, 0));
    emit(program, RETURN(SECCOMP_RET_KILL_PROCESS));
    emit(program, LOAD(NUMBER));
#ifdef X32_BIT
    emit(program, JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1));
    emit(program, RETURN(SECCOMP_RET_KILL_PROCESS));
#endif
}

static void answer(struct program *program, int number, struct sock_filter result) {
    emit(program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1));
    emit(program, result);
}

/* Allowed when argument `n` equals `value`. */
static void allow_if_equal(struct program *program, int number, int n, unsigned value, int error) {
    emit(program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 4));
    emit(program, LOAD(ARGUMENT(n)));
    emit(program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
    emit(program, ALLOW);
    emit(program, REFUSE(error));
}

/* Allowed when argument `n` has any bit of `mask` (`wanted` 1) or none (`wanted` 0). */
static void allow_by_bits(struct program *program, int number, int n, unsigned mask, int wanted,
                          int error) {
    emit(program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 4));
    emit(program, LOAD(ARGUMENT(n)));
    emit(program, JUMP(BPF_JMP | BPF_JSET | BPF_K, mask, wanted ? 0 : 1, wanted ? 1 : 0));
    emit(program, ALLOW);
    emit(program, REFUSE(error));
}

/* All but naming who is signalled when a descriptor is ready: with F_SETSIG that kills any process
 * of this user, the daemon among them, without a call that is named after it. */
static void allow_fcntl(struct program *program) {
    emit(program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 5));
    emit(program, LOAD(ARGUMENT(1)));
    emit(program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETOWN, 1, 0));
    emit(program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETOWN_EX, 0, 1));
    emit(program, REFUSE(EPERM));
    emit(program, ALLOW);
}

static const int allowed[] = {
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_pwrite64,
    SYS_close,
    SYS_lseek,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_getdents64,
    SYS_openat,
    SYS_readlinkat,
    SYS_getcwd,
    SYS_dup,
    SYS_dup3,
    SYS_mprotect,
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_brk,
    SYS_memfd_create,
    SYS_futex,
    SYS_set_robust_list,
    SYS_rseq,
    SYS_set_tid_address,
    SYS_membarrier,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sigaltstack,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_timerfd_gettime,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_ppoll,
    SYS_eventfd2,
    SYS_pipe2,
    SYS_uname,
    SYS_sysinfo,
    SYS_getpid,
    SYS_gettid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getrusage,
    SYS_getrandom,
    SYS_exit,
    SYS_exit_group,
    SYS_restart_syscall,
#if defined(__x86_64__)
    SYS_epoll_wait,
    SYS_poll,
    SYS_readlink,
    SYS_getrlimit,
    SYS_stat,
    SYS_lstat,
    SYS_time,
#endif
};

static const int denied[] = {
    SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4,
};

static int install(struct program *program, unsigned flags) {
    if (program->count >= FILTER_MAX)
        return -E2BIG;
    struct sock_fprog filter = {.len = program->count, .filter = program->code};
    long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
    if (result > 0)
        return -EBUSY; /* a thread that could not be brought along */
    if (result == 0)
        return 0;
    /* Some service managers filter the call itself; prctl does the same for one thread. */
    if (flags == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0)
        return 0;
    return -errno;
}

int filter_install_one(void) {
    struct program program = {.count = 0};
    begin(&program);
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        answer(&program, allowed[i], ALLOW);
    for (size_t i = 0; i < sizeof denied / sizeof *denied; i++)
        answer(&program, denied[i], REFUSE(EACCES));
    answer(&program, SYS_execve, REFUSE(EPERM));
    answer(&program, SYS_execveat, REFUSE(EPERM));
    allow_if_equal(&program, SYS_sendmsg, 0, WORKER_CHANNEL, EACCES);
    allow_if_equal(&program, SYS_recvmsg, 0, WORKER_CHANNEL, EACCES);
    allow_if_equal(&program, SYS_tgkill, 0, (unsigned)getpid(), EPERM);
    allow_fcntl(&program);
    /* Stage two comes this way, and then shuts the door. */
    allow_if_equal(&program, SYS_seccomp, 0, SECCOMP_SET_MODE_FILTER, ENOSYS);
    allow_by_bits(&program, SYS_clone, 0, CLONE_THREAD, 1, ENOSYS);
    /* Shared memory would escape the data limit, and nothing here shares memory. */
    allow_by_bits(&program, SYS_mmap, 3, MAP_SHARED, 0, EACCES);
    /* Reading limits only: a new limit is a non-null third argument. */
    emit(&program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 6));
    emit(&program, LOAD(ARGUMENT(2)));
    emit(&program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3));
    emit(&program, LOAD(ARGUMENT(2) + 4));
    emit(&program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1));
    emit(&program, ALLOW);
    emit(&program, REFUSE(EPERM));
    /* Naming threads and memory ranges; a wedge of prctl is a system interface of its own. */
    emit(&program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 6));
    emit(&program, LOAD(ARGUMENT(0)));
    emit(&program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_NAME, 2, 0));
    emit(&program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_GET_NAME, 1, 0));
    emit(&program, JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x53564d41 /* PR_SET_VMA */, 0, 1));
    emit(&program, ALLOW);
    emit(&program, REFUSE(EPERM));
    emit(&program, REFUSE(ENOSYS));
    return install(&program, 0);
}

int filter_install_two(void) {
    struct program program = {.count = 0};
    begin(&program);
    allow_by_bits(&program, SYS_mmap, 2, PROT_EXEC, 0, EACCES);
    allow_by_bits(&program, SYS_mprotect, 2, PROT_EXEC, 0, EACCES);
    answer(&program, SYS_seccomp, REFUSE(ENOSYS));
    emit(&program, ALLOW);
    return install(&program, SECCOMP_FILTER_FLAG_TSYNC);
}
