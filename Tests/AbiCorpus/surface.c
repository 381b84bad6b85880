/* SPDX-License-Identifier: Apache-2.0
 *
 * Every struct of the public headers in the signature of something exported, so that its debug
 * information holds them and abidiff (libabigail) can compare them with those of a release.
 * Compiled, never run.
 */
#include <milepost/plugin.h>

#define SURFACE(type)                                                                              \
    MP_EXPORT uint64_t surface_##type(const type *value);                                          \
    uint64_t surface_##type(const type *value) {                                                   \
        return value ? sizeof *value : 0;                                                          \
    }

SURFACE(mp_view)
SURFACE(mp_pair)
SURFACE(mp_time)
SURFACE(mp_op)
SURFACE(mp_http_request)
SURFACE(mp_event)
SURFACE(mp_host_info)
SURFACE(mp_host)
SURFACE(mp_plugin)

const mp_plugin *milepost_plugin_v1(const mp_host_info *info, int32_t *ret_status) {
    (void)info;
    (void)ret_status;
    return 0;
}
