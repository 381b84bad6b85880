/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Debian 12's kernel headers lack the later fields and all that came with them, so the definitions
 * are our own; the kernel takes the size that fits its level. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

struct ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net; /* from ABI 4 */
    uint64_t scoped;             /* from ABI 6 */
};
struct path_rule {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));

enum {
    FS_EXECUTE = 1 << 0,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_LEVEL_1 = (1 << 13) - 1,
    FS_REFER = 1 << 13,     /* 2 */
    FS_TRUNCATE = 1 << 14,  /* 3 */
    FS_IOCTL_DEV = 1 << 15, /* 5 */
    NET_TCP = 3,            /* 4: bind and connect */
    SCOPES = 3,             /* 6: abstract sockets and signals */
    CREATE_RULESET_VERSION = 1,
    RULE_PATH_BENEATH = 1,
};

/* A worker's thread stacks count as data; 1 MiB is room for any translator. */
#define THREAD_STACK (1024u * 1024u)
#define MEBIBYTE (1024u * 1024u)
/* The C library, its arenas, the loader and the frames in flight. */
#define BASE_DATA_MB 32u

static void allow_path(int ruleset, const char *path, uint64_t access) {
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return; /* not on every system: /lib64 */
    struct stat status;
    if (fstat(fd, &status) == 0 && !S_ISDIR(status.st_mode))
        access &= FS_EXECUTE | FS_READ_FILE;
    struct path_rule rule = {.allowed_access = access, .parent_fd = fd};
    (void)syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0);
    close(fd);
}

static uint32_t restrict_files(const char *plugin_path) {
    long level = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
    if (level < 1)
        return 0;
    struct ruleset attributes = {.handled_access_fs = FS_LEVEL_1};
    size_t size = sizeof attributes.handled_access_fs;
    if (level >= 2)
        attributes.handled_access_fs |= FS_REFER;
    if (level >= 3)
        attributes.handled_access_fs |= FS_TRUNCATE;
    if (level >= 4) {
        attributes.handled_access_net = NET_TCP; /* handled and granted to nobody */
        size = offsetof(struct ruleset, scoped);
    }
    if (level >= 5)
        attributes.handled_access_fs |= FS_IOCTL_DEV;
    if (level >= 6) {
        attributes.scoped = SCOPES;
        size = sizeof attributes;
    }
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
    if (ruleset < 0)
        return 0;

    static const char *const libraries[] = {"/lib", "/lib64", "/usr/lib", "/usr/lib64"};
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
        allow_path(ruleset, libraries[i], FS_EXECUTE | FS_READ_FILE | FS_READ_DIR);
    char folder[PATH_MAX];
    strncpy(folder, plugin_path, sizeof folder - 1);
    folder[sizeof folder - 1] = 0;
    char *slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = 0;
        allow_path(ruleset, folder, FS_EXECUTE | FS_READ_FILE | FS_READ_DIR);
    }
    /* Its own threads' folder holds nothing of any other process; thread_facts.c says who reads it. */
    static const char *const readable[] = {"/proc/self/task", "/usr/share/zoneinfo",
                                           "/etc/localtime",
                                           "/etc/ld.so.cache", "/dev/urandom", "/dev/null"};
    for (size_t i = 0; i < sizeof readable / sizeof *readable; i++)
        allow_path(ruleset, readable[i], FS_READ_FILE | FS_READ_DIR);
    long result = syscall(SYS_landlock_restrict_self, ruleset, 0);
    close(ruleset);
    return result == 0 ? (uint32_t)level : 0;
}

/* A daemon that runs as root shall not lend its powers: a worker needs none of them. */
static void drop_capabilities(void) {
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    (void)syscall(SYS_capset, &header, none);
}

static void limit(int resource, uint64_t value) {
    struct rlimit current;
    if (getrlimit(resource, &current) != 0)
        return;
    if (current.rlim_max != RLIM_INFINITY && current.rlim_max < value)
        value = current.rlim_max;
    struct rlimit wanted = {value, value};
    (void)setrlimit(resource, &wanted);
}

static void offer_to_oom_killer(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, "1000", 4) < 0) {
    } /* a hint: the limits below are the rule */
    close(fd);
}

void sandbox_enter(const char *plugin_path, uint64_t memory_mb, uint64_t threads,
                   struct sandbox_levels *ret_levels) {
    (void)syscall(SYS_close_range, WORKER_CHANNEL + 1, ~0u, 0);
    offer_to_oom_killer();
    drop_capabilities();
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, 32); /* times the file size below, this bounds what memfds can hold */
    limit(RLIMIT_FSIZE, MILEPOST_FRAME_PAYLOAD_MAX); /* memfds are files too */
    limit(RLIMIT_MEMLOCK, 0);
    limit(RLIMIT_MSGQUEUE, 0);
    limit(RLIMIT_DATA, (memory_mb + BASE_DATA_MB) * MEBIBYTE + threads * THREAD_STACK);

    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) == 0) {
        (void)pthread_attr_setstacksize(&attributes, THREAD_STACK);
        (void)pthread_setattr_default_np(&attributes);
        pthread_attr_destroy(&attributes);
    }
    ret_levels->landlock_abi = restrict_files(plugin_path);
    ret_levels->filter_one = filter_install_one() == 0;
    ret_levels->filter_two = 0;
}

void sandbox_seal(struct sandbox_levels *levels) {
    levels->filter_two = filter_install_two() == 0;
}
