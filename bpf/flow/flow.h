/* SPDX-License-Identifier: GPL-2.0 */
/* What flow.bpf.c and owners.bpf.c share. */
#ifndef FATHOM_FLOW_H
#define FATHOM_FLOW_H

#include "loss.h"

/* The numbers are those of fathom.events.observations. */
enum flow_first {
	FLOW_FIRST_SENT = 1,
	FLOW_FIRST_RECEIVED,
};

enum flow_owner_source {
	FLOW_OWNER_SOURCE_UNKNOWN = 0,
	FLOW_OWNER_SOURCE_TASK_FILE = 3,
	FLOW_OWNER_SOURCE_SOCKET = 6,
};

/* Who made a socket. */
struct flow_owner {
	cgroup_t cgroup;
	comm_t comm;
	process_t pid;
	netns_t netns;
};

/* One socket and one peer. */
struct flow_key {
	socket_t socket; /* its cookie */
	address_t local;
	address_t remote;
	port_t local_port; /* ICMP: the echo identifier */
	port_t remote_port;
	enum_t protocol; /* IP protocol number */
	enum_t family;	 /* 4 or 6 */
	__u8 pad[2];
};

/* What passed between two drains: one a CPU. The owner is copied when the flow begins, so that it
 * outlives the socket. */
struct flow_counts {
	count_t packets_sent;
	count_t packets_received;
	bytes_t bytes_sent; /* IP length */
	bytes_t bytes_received;
	ns_t first;
	struct flow_owner owner;
	enum_t first_direction;
	enum_t owner_source;
	__u8 pad[6];
};

/* A row of the iterator: the process that holds a socket. */
struct flow_holder {
	socket_t socket;
	struct flow_owner owner;
};

#endif
