/* What the program in xdp.c and throttled/enforce/xdp/layout.py both know. A test compares them.
 *
 * LAYOUT is part of the path of the pins. Whatever changes the meaning of a pinned map raises it;
 * what an older layout holds is taken over as long as a subject stays what it is and an element
 * only grows at its end.
 */
#ifndef THROTTLED_XDP_H
#define THROTTLED_XDP_H

#include <linux/types.h>

#define LAYOUT 2

/* A slot of `sets4` and `sets6` holds the set of a scope, bans, throttles or exemptions, addresses
 * or networks, if there is one. Its number is a sum of these, times the number of the scope. */
#define NETWORKS 1
#define THROTTLE 2
#define EXEMPT 4
#define SCOPE 8
#define SCOPES 2
#define SLOTS 16

/* Distinct prefix lengths of networks: all that IPv6 has. */
#define LENGTHS 129

/* An address (of 32 or 128 bits) or a network, as a key of hashes and tries. The keys of IPv4 end
 * after four bytes of the address. Bits after the prefix are 0. */
struct subject {
	__u32 prefix;
	__u8 address[16];
};
#define KEY4 8
#define KEY6 20

/* What is in force against a subject. Times are nanoseconds of the boot clock. */
struct element {
	__u64 expires; /* from then on it is as if it were not there */
	__u64 packets; /* dropped */
	__u64 due;     /* throttle: when so many connections would be due at the allowed rate */
	__u64 rate;    /* throttle: the settings' `rate` that `due` was counted by */
	/* throttle: a rate of its own, `count` new connections in so many seconds; 0: the settings' */
	__u32 count, seconds, burst;
	__u32 unused;
};

struct settings {
	__u64 rate;      /* number of this rate; another rate begins a new allowance */
	__u64 interval;  /* ns between new connections */
	__u64 tolerance; /* ns that they may be early: burst - 1 intervals */
	__u8 scope[65536]; /* of a port: 1 + the scope's number; 0: not ours */
};

/* Prefix lengths that there are networks of, for IPv4 and for IPv6. */
struct lengths {
	__u32 count;
	__u8 length[LENGTHS];
	__u8 unused[3];
};

#endif
