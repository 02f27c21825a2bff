/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Counts the connections that clients completed with our SMTP ports, by source.
 *
 * The kernel calls it, among others, when the last packet of a handshake has come from the client:
 * it has then shown that it receives what is sent to its address, so that a forged SYN counts
 * nothing. That the application has not accepted the connection yet, or never will, does not
 * matter. It answers none of the kernel's questions (it leaves `reply` alone) and so disturbs no
 * other program of its kind.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "sensor.h"
#include "words.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct watched);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SOURCES);
	__type(key, struct source);
	__type(value, __u64);
} counts SEC(".maps");

/* Handshakes that found no room in `counts`. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} missed SEC(".maps");

SEC("sockops")
int handshake(struct bpf_sock_ops *ops)
{
	struct watched *watched;
	__u32 zero = 0, scope;
	__u64 one = 1, *count, high, low;

	if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	watched = bpf_map_lookup_elem(&settings, &zero);
	if (!watched)
		return 1;
	scope = watched->scope[ops->local_port & 0xffff];
	if (!scope || bpf_get_netns_cookie(ops) != watched->netns)
		return 1;
	client(ops, &high, &low);
	/* Without CAP_PERFMON the verifier of Linux 6.1 refuses to store a part of eight bytes of stack
	 * that hold a number: each eight bytes of the key are stored once, as a whole. */
	struct source from = { { high, low }, scope - 1 };

	/* Two processors may see the first of a source at once: then the second try finds it. */
	for (int again = 0; again < 2; again++) {
		count = bpf_map_lookup_elem(&counts, &from);
		if (count) {
			__sync_fetch_and_add(count, 1);
			return 1;
		}
		if (!bpf_map_update_elem(&counts, &from, &one, BPF_NOEXIST))
			return 1;
	}
	count = bpf_map_lookup_elem(&missed, &zero);
	if (count)
		*count += 1;
	return 1;
}

char _license[] SEC("license") = "Dual MIT/GPL";
