/* SPDX-License-Identifier: Apache-2.0 */
/* One implementation for both ends of the channel: the daemon compiles the same file into its own C
 * target. */
#include "../CMilepostLinux/channel.c"
