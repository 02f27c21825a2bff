/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Admission control: limits the connections that strangers have open at the SMTP ports.
 *
 * `syn` sees what arrives for Postfix's listeners, before SYN queue and SYN cookies; a dropped SYN is
 * silent, and the sender's kernel repeats it. `session` counts connections from the completed
 * handshake until Postfix or the client ends them.
 *
 * Between a SYN and its handshake lies a round trip, in which a place must be reserved; but a forged
 * SYN would reserve it for nothing. So a SYN reserves only the share of a place by which SYNs have
 * completed lately: 1 in ordinary times, 1/1000 in a flood of forged SYNs, after a few seconds. Over
 * some seconds, so that pulses of forged SYNs do not begin with 1 again and again. An attacker who
 * stops forging and begins to connect gets more than the cap for a round trip; the third packet of
 * the handshake is the second bound (see `above`).
 *
 * Everything passes after `until`, which the daemon renews.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "admission.h"
#include "words.h"

#define EXTENSIONS 8
#define FIN_SYN_RST_ACK 0x17
#define SYN 0x02
#define ACK 0x10
#define WEIGHT 16 /* of a SYN in `lost`; twice that in `completed` */

#define ONE(name, kind)                          \
	struct {                                 \
		__uint(type, BPF_MAP_TYPE_ARRAY); \
		__uint(max_entries, 1);          \
		__type(key, __u32);              \
		__type(value, kind);             \
	} name SEC(".maps")

struct ports {
	__u8 port[65536]; /* local ones; not 0: ours */
};
ONE(limits_map, struct limits);
ONE(state_map, struct state);
ONE(ports_map, struct ports);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KNOWN);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct source);
	__type(value, __u8);
} known SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, KNOWN_NETWORKS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, sizeof(struct network) - 4);
	__uint(value_size, 1);
} known_networks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, __u32);
	__type(value, __u64);
} dropped SEC(".maps");

/* When a network (see `network_of`) last completed a handshake. A time to come, up to LONGEST, if it
 * completed several in one turn (it sent their SYNs before the first had completed) and so had some of
 * its next ones, or if the daemon wants it to wait. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, NETWORKS);
	__type(key, __u64);
	__type(value, __u64);
} networks SEC(".maps");

/* Dropped packets of networks. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, DELAYED);
	__type(key, __u64);
	__type(value, struct delay);
} delayed SEC(".maps");

/* 1 on a socket that is counted in `open`. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} counted SEC(".maps");

static __always_inline int is_known(__u64 high, __u64 low)
{
	/* Without CAP_PERFMON the verifier refuses, before Linux 6.8, to store a part of eight bytes of
	 * stack that hold a number. So each eight bytes of a key are stored once, as a whole, and what
	 * clang may spill more than once has eight bytes. tests/unit/test_objects.py looks at that. */
	__u64 network[3] = { pair(0, 128), high, low };
	struct source address = { { high, low } };

	return bpf_map_lookup_elem(&known, &address) ||
	       bpf_map_lookup_elem(&known_networks, (char *)network + 4);
}

/* The /64 of an IPv6 address; of IPv4 the /24, as 0:0:a.b.c.0. Addresses of 64:ff9b::/96 (NAT64)
 * have IPv4 in them. */
static __always_inline __u64 network_of(__u64 high, __u64 low)
{
	__u64 v4 = bpf_cpu_to_be64(0xffff00000000ULL), bits = bpf_cpu_to_be64(0xffffff00ULL);

	if (!high && (low & bpf_cpu_to_be64(0xffffffff00000000ULL)) == v4)
		return low & bits;
	if (high == bpf_cpu_to_be64(0x0064ff9b00000000ULL))
		return low & bits;
	return high;
}

/* From here to `opened` the lock is taken.
 *
 * With each second a quarter of the lost SYNs is forgotten, and half of the completed ones, which
 * have twice the weight for it: a flood that begins after a rush of clients is learnt of in seconds. */
static __always_inline void fade(struct state *state, int after)
{
	state->completed = after ? state->completed / 2 : 0;
	state->lost = after ? state->lost - (state->lost + 3) / 4 : 0;
}

/* Begin another slot, half second, second. */
static __always_inline void advance(struct state *state, __u64 now)
{
	__u64 slot = now / SLOT, half = now / HALF, second = now / SECOND;
	int after;

	if (slot > state->slot) {
		state->slot = slot;
		state->in_slot = 0;
	}
	if (half > state->half) {
		after = half == state->half + 1;
		state->lost += WEIGHT * (state->pending[1] + (after ? 0 : state->pending[0]));
		state->pending[1] = after ? state->pending[0] : 0;
		state->pending[0] = 0;
		state->half = half;
	}
	if (second > state->second) {
		fade(state, second <= state->second + 10);
		state->second = second;
	}
}

/* How many connections SYNs will become. Half of one more counts as completed, so that forged ones,
 * however few find a place, reserve less than one. */
static __always_inline __u64 expected(struct state *state, __u64 syns)
{
	__u64 completed = state->completed + WEIGHT / 2;

	return syns * completed / (completed + state->lost);
}

/* Why a SYN is not let through; REASONS: it is. */
static __always_inline __u64 judge(struct state *state, struct limits *limits, __u64 turned)
{
	__s64 open = state->open + limits->base;

	if (open < 0)
		open = 0;
	open += expected(state, (__u64)state->pending[0] + state->pending[1]);
	if (open >= limits->cap)
		return CAP;
	if (open >= limits->places)
		return PACE;
	if (limits->pace && expected(state, state->in_slot) >= limits->pace)
		return PACE;
	return turned ? TURN : REASONS;
}

/* Whether a handshake may not complete: more than an eighth above the cap. The client believes that it
 * is connected; the kernel repeats its SYN-ACK, so that the client repeats this packet. (With a SYN
 * cookie nothing is repeated: then the client waits for the greeting in vain, as it does where the
 * accept queue is full.) */
static __always_inline int above(struct state *state, struct limits *limits)
{
	return state->open + limits->base >= (__s64)limits->cap + limits->cap / 8 + 1;
}

static __always_inline void opened(struct state *state)
{
	if (state->pending[1])
		state->pending[1]--;
	else if (state->pending[0])
		state->pending[0]--;
	state->open++;
	state->admitted++;
	state->completed += 2 * WEIGHT;
}

static __always_inline void note(__u64 why, __u64 network, __u64 now)
{
	struct delay *found = bpf_map_lookup_elem(&delayed, &network), first = { 1, now };
	union {
		__u64 whole;
		__u32 key;
	} index = { .key = why };
	__u64 *count = bpf_map_lookup_elem(&dropped, &index);

	if (count)
		*count += 1;
	if (!found) {
		bpf_map_update_elem(&delayed, &network, &first, BPF_NOEXIST);
		return;
	}
	if (found->last + LATE < now)
		found->count = 0;
	found->last = now;
	__sync_fetch_and_add(&found->count, 1);
}

static __always_inline int stranger(__u64 high, __u64 low, __u64 opens)
{
	__u32 zero = 0;
	__u64 network = network_of(high, low), now = bpf_ktime_get_boot_ns(), *last = NULL;
	struct limits *limits = bpf_map_lookup_elem(&limits_map, &zero);
	struct state *state = bpf_map_lookup_elem(&state_map, &zero);
	__u64 turned, why = REASONS;

	if (!limits || !state || now >= limits->until)
		return 1;
	if (opens && limits->turn)
		last = bpf_map_lookup_elem(&networks, &network);
	/* Another processor may have marked it since `now`. */
	turned = last && *last + limits->turn > now + SLOT;
	bpf_spin_lock(&state->lock);
	if (opens) {
		advance(state, now);
		why = judge(state, limits, turned);
	} else if (limits->dropping && above(state, limits)) {
		why = CAP;
	}
	if (opens && (why == REASONS || !limits->dropping)) {
		state->in_slot++;
		state->pending[0]++;
	}
	bpf_spin_unlock(&state->lock);
	if (why == REASONS)
		return 1;
	note(why, network, now);
	return !limits->dropping;
}

/* Where the TCP header of IPv6 begins; 0: behind more extension headers than anybody honest sends.
 * The kernel has found one, so there is one. */
static __always_inline __u64 behind(struct __sk_buff *skb)
{
	__u64 at = 40;
	__u8 next, extension[2];

	if (bpf_skb_load_bytes(skb, 6, extension, 1))
		return 0;
	next = extension[0];
#pragma unroll
	for (int i = 0; i <= EXTENSIONS; i++) {
		if (next == IPPROTO_TCP)
			return at;
		if (i == EXTENSIONS || bpf_skb_load_bytes(skb, at, extension, 2))
			return 0;
		if (next == IPPROTO_AH) /* RFC 4302: in words of four bytes, less two */
			at += (extension[1] + 2) * 4;
		else if (next == IPPROTO_FRAGMENT)
			at += 8;
		else
			at += (extension[1] + 1) * 8;
		next = extension[0];
	}
	return 0;
}

SEC("cgroup_skb/ingress")
int syn(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct ports *ours;
	__u64 high = 0, low = 0;
	__u64 at;
	__u32 zero = 0, four;
	__u8 first, flags;

	if (!sk || sk->state != BPF_TCP_LISTEN)
		return 1;
	ours = bpf_map_lookup_elem(&ports_map, &zero);
	if (!ours || !ours->port[sk->src_port & 0xffff] || bpf_skb_load_bytes(skb, 0, &first, 1))
		return 1;
	if (first >> 4 == 4) {
		at = (first & 15) * 4;
		if (bpf_skb_load_bytes(skb, 12, &four, 4))
			return 1;
		low = pair(bpf_htonl(0xffff), four);
	} else {
		at = behind(skb);
		if (bpf_skb_load_bytes(skb, 8, &high, 8) || bpf_skb_load_bytes(skb, 16, &low, 8))
			return 1;
	}
	flags = SYN;
	if (at && bpf_skb_load_bytes(skb, at + 13, &flags, 1))
		return 1;
	flags &= FIN_SYN_RST_ACK;
	if ((flags != SYN && flags != ACK) || is_known(high, low))
		return 1;
	return stranger(high, low, flags == SYN);
}

static __always_inline void count(struct bpf_sock_ops *ops, struct bpf_sock *sk,
				  struct state *state, struct limits *limits)
{
	__u64 high, low, network, now = bpf_ktime_get_boot_ns(), *mark, *last, next = now;

	client(ops, &high, &low);
	if (is_known(high, low))
		return;
	mark = bpf_sk_storage_get(&counted, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!mark || *mark)
		return;
	if (bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG))
		return;
	*mark = 1;
	network = network_of(high, low);
	last = bpf_map_lookup_elem(&networks, &network);
	if (last && *last + limits->turn > now)
		next = *last + limits->turn < now + LONGEST ? *last + limits->turn : now + LONGEST;
	bpf_map_update_elem(&networks, &network, &next, BPF_ANY);
	bpf_spin_lock(&state->lock);
	advance(state, now);
	opened(state);
	bpf_spin_unlock(&state->lock);
}

static __always_inline void uncount(struct bpf_sock *sk, struct state *state)
{
	__u64 *mark = bpf_sk_storage_get(&counted, sk, NULL, 0);

	if (!mark || !*mark)
		return;
	*mark = 0;
	bpf_spin_lock(&state->lock);
	state->open--;
	bpf_spin_unlock(&state->lock);
}

/* It answers none of the kernel's questions (it leaves `reply` alone) and so disturbs no other program
 * of its kind. */
SEC("sockops")
int session(struct bpf_sock_ops *ops)
{
	struct ports *ours;
	struct limits *limits;
	struct state *state;
	struct bpf_sock *sk;
	__u32 zero = 0; /* the only one: see is_known */

	if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && ops->op != BPF_SOCK_OPS_STATE_CB)
		return 1;
	ours = bpf_map_lookup_elem(&ports_map, &zero);
	state = bpf_map_lookup_elem(&state_map, &zero);
	limits = bpf_map_lookup_elem(&limits_map, &zero);
	sk = ops->sk;
	if (!ours || !limits || !state || !sk || !ours->port[ops->local_port & 0xffff])
		return 1;
	if (ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		count(ops, sk, state, limits);
	else if (ops->args[1] != BPF_TCP_ESTABLISHED && ops->args[1] != BPF_TCP_CLOSE_WAIT)
		uncount(sk, state); /* no smtpd has it any more, or none will */
	return 1;
}

char _license[] SEC("license") = "Dual MIT/GPL";
