/* Drops SMTP packets of banned clients, and new connections of throttled ones above their rate.
 *
 * What it cannot judge it passes: anything but TCP to an SMTP port at an address of this host,
 * headers that end before the ports, more than two VLAN tags or eight extension headers, later fragments
 * (without the first one the rest is never put together). It writes nothing but counters and the
 * allowances of elements that the daemon put in: a forged packet can start or lengthen nothing.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "xdp.h"

#define VLAN_TAGS 2
#define EXTENSIONS 8
#define TRIES 4
#define SECOND 1000000000ULL

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct lengths);
} lengths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} dropped SEC(".maps");

#define TRIE(name, size)                            \
	struct {                                    \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE); \
		__uint(max_entries, 1 << 20);       \
		__uint(map_flags, BPF_F_NO_PREALLOC); \
		__uint(key_size, size);             \
		__uint(value_size, 1);              \
	} name SEC(".maps")
TRIE(protected4, KEY4); /* never dropped */
TRIE(protected6, KEY6);
TRIE(own4, KEY4); /* what this host accepts packets for */
TRIE(own6, KEY6);

/* Memory goes to elements that there are; the sets themselves are made when first needed. */
#define SETS(name, size)                                \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); \
		__uint(max_entries, SLOTS);             \
		__uint(key_size, sizeof(__u32));        \
		__array(values, struct {                \
			__uint(type, BPF_MAP_TYPE_HASH); \
			__uint(max_entries, 1);         \
			__uint(map_flags, BPF_F_NO_PREALLOC); \
			__uint(key_size, size);         \
			__uint(value_size, sizeof(struct element)); \
		});                                     \
	} name SEC(".maps")
SETS(sets4, KEY4);
SETS(sets6, KEY6);

/* A TCP segment, as far as it is judged. */
struct packet {
	struct subject from, to;
	__u32 six; /* 0: IPv4, 1: IPv6 */
	__u16 port;
	__u16 opens; /* a new connection */
};

static __always_inline void *set_of(struct packet *packet, __u32 slot)
{
	return packet->six ? bpf_map_lookup_elem(&sets6, &slot) : bpf_map_lookup_elem(&sets4, &slot);
}

static __always_inline struct element *find(void *set, struct subject *key)
{
	struct element *found = bpf_map_lookup_elem(set, key);

	return found && found->expires > bpf_ktime_get_boot_ns() ? found : NULL;
}

/* The network of a prefix length that a packet comes from. */
static __always_inline void network(struct packet *packet, struct subject *key, __u32 prefix)
{
	__u32 *from = (__u32 *)packet->from.address, *words = (__u32 *)key->address;

	key->prefix = prefix;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		int bits = (int)prefix - 32 * i;

		words[i] = bits <= 0 ? 0 : bits >= 32 ? from[i] : from[i] & bpf_htonl(~0U << (32 - bits));
	}
}

static __always_inline int drop(struct element *found)
{
	__u32 zero = 0;
	__u64 *total = bpf_map_lookup_elem(&dropped, &zero);

	__sync_fetch_and_add(&found->packets, 1);
	if (total)
		*total += 1;
	return XDP_DROP;
}

/* Whether a new connection is above the rate. A bucket of `burst` connections, kept as the time at
 * which the next one is due: one number, so that processors need no lock. */
static __always_inline int above(struct element *found, struct settings *set)
{
	__u64 now = bpf_ktime_get_boot_ns(), interval = set->interval, tolerance = set->tolerance;

	if (found->count) { /* `tolerance` is at most a day: see enforce/entries.py */
		interval = found->seconds * SECOND / found->count;
		tolerance = interval * (found->burst - 1);
	} else if (found->rate != set->rate) {
		found->due = 0;
		found->rate = set->rate;
	}
	for (int i = 0; i < TRIES; i++) {
		__u64 due = found->due, start = due > now ? due : now;

		if (start - now > tolerance)
			return 1;
		if (__sync_val_compare_and_swap(&found->due, due, start + interval) == due)
			return 0;
	}
	return 1; /* other processors were let in meanwhile, again and again */
}

/* A walk over the networks around an address. */
struct walk {
	struct packet *packet;
	struct settings *set;
	struct lengths *used;
	__u32 slot;
	int verdict;
};

static long visit(__u32 i, struct walk *walk)
{
	void *networks = set_of(walk->packet, walk->slot);
	struct subject key = {};
	struct element *found;

	if (!networks || i >= LENGTHS)
		return 1;
	network(walk->packet, &key, walk->used->length[i]);
	found = find(networks, &key);
	if (found && (!(walk->slot & THROTTLE) || above(found, walk->set)))
		walk->verdict = drop(found);
	return walk->verdict == XDP_DROP;
}

/* The element of an address in the set of a scope and an action. */
static __always_inline struct element *own(struct packet *packet, __u32 slot)
{
	void *addresses = set_of(packet, slot);

	return addresses ? find(addresses, &packet->from) : NULL;
}

/* The sets of a scope and an action: the networks around an address. */
static __always_inline int judge(struct packet *packet, struct settings *set, __u32 slot)
{
	struct walk walk = { packet, set, NULL, slot | NETWORKS, XDP_PASS };

	walk.used = bpf_map_lookup_elem(&lengths, &packet->six);
	if (walk.used && set_of(packet, walk.slot))
		bpf_loop(walk.used->count, visit, &walk, 0);
	return walk.verdict;
}

/* The sets of a scope: what is in force against the address itself, unless it is exempt also what is
 * against its networks. Throttles are for what opens a connection. */
static __always_inline int judge_scope(struct packet *packet, struct settings *set, __u32 scope)
{
	struct element *found = own(packet, scope * SCOPE);

	if (found)
		return drop(found);
	if (packet->opens) {
		found = own(packet, scope * SCOPE | THROTTLE);
		if (found && above(found, set))
			return drop(found);
	}
	if (own(packet, scope * SCOPE | EXEMPT))
		return XDP_PASS;
	if (judge(packet, set, scope * SCOPE) == XDP_DROP)
		return XDP_DROP;
	return packet->opens ? judge(packet, set, scope * SCOPE | THROTTLE) : XDP_PASS;
}

/* Not inlined and not static: so the kernel verifies it once, not for each way that leads here. */
__attribute__((noinline)) int verdict(struct packet *packet)
{
	struct settings *set;
	__u32 zero = 0, scope;

	set = bpf_map_lookup_elem(&settings, &zero);
	if (!packet || !set)
		return XDP_PASS;
	scope = set->scope[packet->port];
	if (scope < 1 || scope > SCOPES)
		return XDP_PASS;
	if (packet->six ? !!bpf_map_lookup_elem(&protected6, &packet->from) :
			  !!bpf_map_lookup_elem(&protected4, &packet->from))
		return XDP_PASS;
	if (packet->six ? !bpf_map_lookup_elem(&own6, &packet->to) :
			  !bpf_map_lookup_elem(&own4, &packet->to))
		return XDP_PASS;
	return judge_scope(packet, set, scope - 1);
}

/* Of a first fragment not more than eight bytes may be there: enough for the ports. Nobody honest
 * cuts before the flags (CUT), so what does counts as a new connection. */
#define LEAST 8
#define FLAGS 14

static __always_inline int tcp(struct packet *packet, struct tcphdr *header, void *end, int cut)
{
	void *at = header;

	if (at + LEAST > end)
		return XDP_PASS;
	packet->port = bpf_ntohs(header->dest);
	packet->opens = cut || at + FLAGS > end || (header->syn && !header->ack);
	return verdict(packet);
}

static __always_inline int ipv4(void *at, void *end)
{
	struct iphdr *header = at;
	struct packet packet = { .from.prefix = 32, .to.prefix = 32, .six = 0 };
	int cut;

	if ((void *)(header + 1) > end || header->version != 4 || header->ihl < 5 ||
	    header->protocol != IPPROTO_TCP || header->frag_off & bpf_htons(0x1fff))
		return XDP_PASS;
	__builtin_memcpy(packet.from.address, &header->saddr, 4);
	__builtin_memcpy(packet.to.address, &header->daddr, 4);
	/* Behind a fragment so short an Ethernet frame is padded. */
	cut = header->frag_off & bpf_htons(0x2000) &&
	      bpf_ntohs(header->tot_len) < header->ihl * 4 + FLAGS;
	return tcp(&packet, at + header->ihl * 4, end, cut);
}

static __always_inline int ipv6(void *at, void *end)
{
	struct ipv6hdr *header = at;
	struct packet packet = { .from.prefix = 128, .to.prefix = 128, .six = 1 };
	__u8 next;

	if ((void *)(header + 1) > end || header->version != 6)
		return XDP_PASS;
	__builtin_memcpy(packet.from.address, &header->saddr, 16);
	__builtin_memcpy(packet.to.address, &header->daddr, 16);
	next = header->nexthdr;
	at = header + 1;
	for (int i = 0; i <= EXTENSIONS; i++) {
		__u8 *extension = at;

		if (next == IPPROTO_TCP)
			break;
		if (i == EXTENSIONS || (void *)(extension + 8) > end)
			return XDP_PASS;
		switch (next) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			at += (extension[1] + 1) * 8;
			break;
		case IPPROTO_AH: /* RFC 4302: in words of four bytes, less two */
			at += (extension[1] + 2) * 4;
			break;
		case IPPROTO_FRAGMENT:
			if (extension[2] || extension[3] & 0xf8)
				return XDP_PASS;
			at += 8;
			break;
		default:
			return XDP_PASS;
		}
		next = extension[0];
	}
	return tcp(&packet, at, end, 0);
}

SEC("xdp.frags")
int ethernet(struct xdp_md *ctx)
{
	void *at = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *header = at;
	__be16 type;

	if ((void *)(header + 1) > end)
		return XDP_PASS;
	type = header->h_proto;
	at = header + 1;
#pragma unroll
	for (int i = 0; i < VLAN_TAGS; i++) {
		__be16 *tag = at;

		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 2) > end)
			return XDP_PASS;
		type = tag[1];
		at = tag + 2;
	}
	if (type == bpf_htons(ETH_P_IP))
		return ipv4(at, end);
	if (type == bpf_htons(ETH_P_IPV6))
		return ipv6(at, end);
	return XDP_PASS;
}

/* For interfaces without a link layer (PPP, tun, WireGuard): packets begin with IP. */
SEC("xdp.frags")
int internet(struct xdp_md *ctx)
{
	void *at = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u8 *first = at;

	if ((void *)(first + 1) > end)
		return XDP_PASS;
	return *first >> 4 == 4 ? ipv4(at, end) : ipv6(at, end);
}

char _license[] SEC("license") = "GPL";
