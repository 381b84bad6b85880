/* SPDX-License-Identifier: Apache-2.0 */
/* Typed shims for Linux calls that Swift cannot make itself; one header a topic. */
#ifndef MILEPOST_LINUX_H
#define MILEPOST_LINUX_H

#include "channel.h"
#include "copy.h"
#include "listener.h"
#include "mp_memory.h"
#include "notify.h"
#include "process.h"

#endif
