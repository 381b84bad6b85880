/* SPDX-License-Identifier: Apache-2.0
 *
 * The frames between the daemon and a plugin worker, and the few calls that carry them. Private to
 * this repository: both ends are always of one build, and the worker refuses another version.
 *
 * A frame is one SEQPACKET message: the header, then the payload. A payload that does not fit
 * travels in a sealed memfd that comes with the header alone. A payload is uint32 scalar_count,
 * uint32 view_count, uint64 scalars[], uint64 view_lengths[], the views' bytes in the machine's
 * byte order, nothing before, between or after. A length of UINT64_MAX is an absent view.
 */
#ifndef MILEPOST_CHANNEL_H
#define MILEPOST_CHANNEL_H

#include <stdint.h>

#define MILEPOST_FRAME_MAGIC 0x4d504652u
#define MILEPOST_FRAME_VERSION 1u
/** Payload that still travels in the packet. Measured: packets past the send buffer (208 KiB) fail,
 * copies stay cheap up to 64 KiB, and a page pair more for the header would only cost. */
#define MILEPOST_FRAME_INLINE_MAX 65472u
/** The largest payload at all; past it the sender is told that it is too large. */
#define MILEPOST_FRAME_PAYLOAD_MAX (32u * 1024u * 1024u)
#define MILEPOST_FRAME_SCALARS_MAX 16384u
#define MILEPOST_FRAME_VIEWS_MAX 512u
/** Bodies past this reach the plugin as a blob; the same number in both isolation modes. */
#define MILEPOST_BLOB_THRESHOLD 65536u

/** The payload is in the descriptor that came with the packet. */
#define MILEPOST_FRAME_MEMFD 1u

struct milepost_frame {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint32_t flags;
    uint32_t length; /**< bytes of payload, wherever it is */
    uint64_t seq;    /**< counts up by one a direction, so that a lost or doubled frame is seen */
    uint64_t op;
    uint64_t instance;
    uint32_t fd_count;
    uint32_t reserved;
};

enum {
    /* daemon to worker; in brackets: scalars; views */
    MILEPOST_FRAME_CREATE = 1,     /* [; config, then credential name and facts in pairs] */
    MILEPOST_FRAME_OPERATION = 2,  /* [verb, deadline_ns, attempt, flags; body] */
    MILEPOST_FRAME_CANCEL = 3,     /* op in the header */
    MILEPOST_FRAME_EVENT = 4,      /* [kind, token, status, wire, http_status; json, data] */
    MILEPOST_FRAME_DESTROY = 5,    /* */
    MILEPOST_FRAME_CREDENTIAL = 6, /* [; name, facts] */
    MILEPOST_FRAME_LOG_LEVEL = 7,  /* [level] */
    /* worker to daemon */
    MILEPOST_FRAME_HELLO = 32,        /* [landlock ABI, seccomp stage one, version] */
    MILEPOST_FRAME_LOADED = 33,       /* [abi_minor, min_host_minor, verb mask, seccomp stage two,
                                         describe CPU ns, wall ns; manifest] */
    MILEPOST_FRAME_REFUSED = 34,      /* [reason; detail] */
    MILEPOST_FRAME_CREATED = 35,      /* [status] */
    MILEPOST_FRAME_DESTROYED = 36,    /* */
    MILEPOST_FRAME_COMPLETE = 37,     /* [status; result] */
    MILEPOST_FRAME_PARTIAL = 38,      /* [; result] */
    MILEPOST_FRAME_NOT_ACCEPTED = 39, /* [status] */
    MILEPOST_FRAME_HTTP =
        40,                          /* [token, flags, response_cap, timeout_ms, cost, records…;
                                         method, url, body, credential, placement, step, bucket, header names and values…] */
    MILEPOST_FRAME_HTTP_CANCEL = 41, /* [token] */
    MILEPOST_FRAME_JOURNAL = 42,     /* [token, record; step, result] */
    MILEPOST_FRAME_LOG = 43,         /* [level; message, fields] */
    MILEPOST_FRAME_METRIC_ADD = 44,  /* [metric, value, labels…] */
    MILEPOST_FRAME_METRIC_OBSERVE = 45,      /* [metric, value, labels…] */
    MILEPOST_FRAME_KV_GET = 46,              /* [token; key] */
    MILEPOST_FRAME_KV_PUT = 47,              /* [token, version, ttl_ms; key, value] */
    MILEPOST_FRAME_KV_DELETE = 48,           /* [token, version; key] */
    MILEPOST_FRAME_KV_LIST = 49,             /* [token; prefix] */
    MILEPOST_FRAME_TIMER_SET = 50,           /* [token, delay_ms] */
    MILEPOST_FRAME_TIMER_CLEAR = 51,         /* [token] */
    MILEPOST_FRAME_CREDENTIAL_REJECTED = 52, /* [; credential, reason] */
    MILEPOST_FRAME_SIGN = 53,                /* [token; credential, scheme, bytes] */
    MILEPOST_FRAME_HEARTBEAT = 54, /* [CPU time ns, longest running call ns, its instance] */
};

/** Reasons of MILEPOST_FRAME_REFUSED. */
enum {
    MILEPOST_REFUSED_SANDBOX = 1,
    MILEPOST_REFUSED_LOAD = 2,
    MILEPOST_REFUSED_NO_ENTRY = 3,
    MILEPOST_REFUSED_HOST_TOO_OLD = 4,
    MILEPOST_REFUSED_TABLE = 5,
};

/** A pair of connected SEQPACKET sockets, close-on-exec, the first one non-blocking. 0 or a
 * negative errno. */
int milepost_channel_pair(int *ret_daemon_end, int *ret_worker_end);

/**
 * Sends one frame, never blocking. A payload past MILEPOST_FRAME_INLINE_MAX goes by sealed memfd;
 * length, flags and fd_count of `frame` are filled in here. 0, or a negative errno (-EAGAIN: the
 * peer does not drain).
 */
int milepost_channel_send(int channel, struct milepost_frame *frame, const void *payload,
                          uint32_t length);

/**
 * Receives one frame, never blocking. At most `capacity` payload bytes are written; `ret_fd` is -1
 * or a descriptor that the caller owns. Returns payload bytes in the packet, or a negative errno;
 * -EPIPE when the peer is gone, -EBADMSG when the packet breaks the format (truncated, wrong magic
 * or version, more than one descriptor).
 */
int64_t milepost_channel_receive(int channel, struct milepost_frame *ret_frame, void *ret_payload,
                                 uint64_t capacity, int *ret_fd);

/**
 * Checks a payload descriptor (a memfd sealed against shrinking, growing, writing and unsealing, of
 * exactly `length` bytes) and copies it. Without the seals the peer could truncate it under us and
 * raise SIGBUS. 0 or a negative errno.
 */
int milepost_channel_copy_memfd(int fd, void *ret_bytes, uint32_t length);

#endif
