/* SPDX-License-Identifier: Apache-2.0
 *
 * What the test plugins share: reading the few values they need out of the daemon's own bodies, which are JSON with
 * sorted keys and without blanks. No JSON reader: a plugin for real work uses one.
 */
#ifndef MILEPOST_TEST_BODIES_H
#define MILEPOST_TEST_BODIES_H

#include <milepost/plugin.h>

#include <string.h>

static inline mp_view text(const char *string) {
    return (mp_view){(const uint8_t *)string, strlen(string)};
}

static inline int has(mp_view body, const char *word) {
    return memmem(body.ptr, body.len, word, strlen(word)) != NULL;
}

/** What stands between the first `key` and the next `last`, without the bytes of `left_out`; empty when there is none. */
static inline void copy_until(mp_view body, const char *key, char last, const char *left_out,
                              char *ret_value, size_t capacity) {
    const char *found = memmem(body.ptr, body.len, key, strlen(key));
    const char *end = (const char *)body.ptr + body.len;
    size_t length = 0;
    if (found != NULL)
        for (const char *at = found + strlen(key); at < end && *at != last && length + 1 < capacity;
             at++)
            if (strchr(left_out, *at) == NULL)
                ret_value[length++] = *at;
    ret_value[length] = 0;
}

/** The text after `key`, which ends with its opening quote. */
static inline void copy_value(mp_view body, const char *key, char *ret_value, size_t capacity) {
    copy_until(body, key, '"', "\\", ret_value, capacity);
}

/** The body from `word` on; empty when it is not there. */
static inline mp_view after(mp_view body, const char *word) {
    const uint8_t *found = memmem(body.ptr, body.len, word, strlen(word));
    return found == NULL ? (mp_view){NULL, 0}
                         : (mp_view){found, body.len - (size_t)(found - body.ptr)};
}

#endif
