/* A flood without a sender: run on live frames (BPF_F_TEST_XDP_LIVE_FRAMES) that it sends back out
 * of the interface on which they seem to arrive, each from the next of SOURCES addresses. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

static __u32 number;

static __always_inline int address(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *header = data + sizeof(struct ethhdr);
	__u16 *words = (__u16 *)header;
	__u32 sum = 0;

	if ((void *)(header + 1) > end)
		return -1;
	header->saddr = bpf_htonl(FIRST + number++ % SOURCES);
	header->check = 0;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	header->check = ~(sum + (sum >> 16));
	return 0;
}

SEC("xdp")
int send(struct xdp_md *ctx)
{
	return address(ctx) ? XDP_ABORTED : XDP_TX;
}

/* The generator alone. */
SEC("xdp")
int waste(struct xdp_md *ctx)
{
	return address(ctx) ? XDP_ABORTED : XDP_DROP;
}

/* At the other end: the least that can be done with a packet. */
SEC("xdp")
int sink(struct xdp_md *ctx)
{
	return XDP_DROP;
}

char _license[] SEC("license") = "GPL";
