/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the programs in admission.c and sensor.c share. */
#ifndef THROTTLED_WORDS_H
#define THROTTLED_WORDS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
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

/* A word of the context, loaded as such: clang would join two loads into one of eight bytes, or one
 * from either of two places. The verifier accepts neither. */
#define WORD(place) (*(volatile __u32 *)&(place))

/* The client's address as two words of a key; IPv4 as IPv6 has it: ::ffff:192.0.2.1. */
static __always_inline void client(struct bpf_sock_ops *ops, __u64 *high, __u64 *low)
{
	__u32 four = WORD(ops->remote_ip4);

	if (ops->family == IPV4) {
		*high = 0;
		*low = pair(bpf_htonl(0xffff), four);
	} else {
		*high = pair(WORD(ops->remote_ip6[0]), WORD(ops->remote_ip6[1]));
		*low = pair(WORD(ops->remote_ip6[2]), WORD(ops->remote_ip6[3]));
	}
}

#endif
