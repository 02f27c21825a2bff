/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the programs in admission.c and sensor.c share. */
#ifndef THROTTLED_WORDS_H
#define THROTTLED_WORDS_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define IPV4 2 /* AF_INET */

/* Two words as they lie in memory. */
static __always_inline __u64 pair(__u32 first, __u32 second)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return first | (__u64)second << 32;
#else
	return (__u64)first << 32 | second;
#endif
}

#endif
