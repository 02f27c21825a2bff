/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the program in sensor.c and throttled/sources/sensor_maps.py both know. A test compares them. */
#ifndef THROTTLED_SENSOR_H
#define THROTTLED_SENSOR_H

#include <linux/types.h>

/* Sources that are counted between two looks of the daemon: 0.2 s. */
#define SOURCES 8192

/* Who connected where. An IPv4 address is written as IPv6 has it: ::ffff:192.0.2.1. */
struct source {
	__u64 address[2]; /* as on the wire */
	__u64 scope; /* its number */
};

struct watched {
	__u64 netns; /* cookie of the network namespace whose connections count */
	__u8 scope[65536]; /* of a local port: 1 + the scope's number; 0: not ours */
};

#endif
