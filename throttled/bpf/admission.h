/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the programs in admission.c and throttled/enforce/admission/layout.py both know. A test
 * compares them. */
#ifndef THROTTLED_ADMISSION_H
#define THROTTLED_ADMISSION_H

#include <linux/bpf.h>
#include <linux/types.h>

#define KNOWN 131072   /* addresses that are always admitted */
#define KNOWN_NETWORKS 4096
#define NETWORKS 65536 /* networks whose last admission is remembered; the oldest are evicted */
#define DELAYED 4096   /* networks whose dropped packets are counted; the same */
#define LATE 60000000000ULL /* ns after which that count begins anew */

/* Times are nanoseconds of the boot clock. */
#define SLOT 100000000ULL
#define HALF 500000000ULL
#define SECOND 1000000000ULL

/* Written by the daemon alone. */
struct limits {
	__u64 until; /* from then on everybody is admitted */
	__u64 turn;  /* ns in which a network is admitted once; 0: no turns */
	__s64 base;  /* what to add to `open`: connections from before, and corrections */
	__u32 cap;   /* strangers' connections */
	__u32 pace;  /* new ones in a SLOT, 0: any number */
	__u32 dropping; /* 0: count only */
	__u32 places; /* of the cap: those for which Postfix has processes or starts some now */
};

#define LONGEST (900 * SECOND) /* until a network is admitted again */

/* Why a SYN is dropped: index of `dropped`. */
#define CAP 0
#define PACE 1
#define TURN 2
#define REASONS 3

/* Written by the programs alone, under the lock. */
struct state {
	struct bpf_spin_lock lock;
	__u32 in_slot; /* SYNs let through in `slot` */
	__s64 open;  /* strangers' connections counted by the programs */
	__u64 slot, half, second; /* numbers of those that the following are about */
	__u32 pending[2]; /* SYNs let through and not completed: in `half`, in the one before */
	__u32 completed, lost; /* of SYNs let through lately: those that did, and that did not in time */
	__u64 admitted; /* handshakes of strangers, total */
};

/* What was dropped of a network. */
struct delay {
	__u64 count;
	__u64 last; /* when */
};

/* An address as a key; IPv4 is written as IPv6 has it: ::ffff:192.0.2.1. */
struct source {
	__u64 address[2]; /* as on the wire */
};

/* A network as a key of the trie begins with `prefix`, of 128 bits. */
struct network {
	__u32 unused;
	__u32 prefix;
	__u64 address[2];
};

#endif
