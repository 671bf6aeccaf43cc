/* SPDX-License-Identifier: GPL-2.0 */
/* What flow.bpf.c and owners.bpf.c share: the record, the maps, and who owns a socket. */
#ifndef FATHOM_FLOW_H
#define FATHOM_FLOW_H

#include "loss.h"
#include <linux/in.h>

#define SOCK_DGRAM 2 /* include/linux/net.h */
#define SOCK_RAW   3

/* The numbers of the first and the last are those of fathom.events.observations. */
enum flow_event_direction {
	FLOW_EVENT_DIRECTION_UNKNOWN,
	FLOW_EVENT_DIRECTION_EGRESS,
	FLOW_EVENT_DIRECTION_INGRESS,
};

/* Of ICMP, only messages that ask and those that answer say who began. */
enum flow_event_message {
	FLOW_EVENT_MESSAGE_NONE, /* another protocol */
	FLOW_EVENT_MESSAGE_REQUEST,
	FLOW_EVENT_MESSAGE_REPLY,
	FLOW_EVENT_MESSAGE_OTHER, /* errors, neighbours, routers, groups */
};

enum flow_event_protocol {
	FLOW_EVENT_PROTOCOL_ICMP = 1,
	FLOW_EVENT_PROTOCOL_UDP = 17,
	FLOW_EVENT_PROTOCOL_DCCP = 33,
	FLOW_EVENT_PROTOCOL_ICMPV6 = 58,
	FLOW_EVENT_PROTOCOL_SCTP = 132,
	FLOW_EVENT_PROTOCOL_UDPLITE = 136,
};

enum flow_event_owner_source {
	FLOW_EVENT_OWNER_SOURCE_UNKNOWN = 0,
	FLOW_EVENT_OWNER_SOURCE_TASK_FILE = 3,
	FLOW_EVENT_OWNER_SOURCE_SOCKET = 6,
	FLOW_EVENT_OWNER_SOURCE_PACKET = 7,
};

/* The record of user space, put together from the three structs below at a drain. */
struct DOC("A socket and a peer: what passed between them in an interval") flow_event {
	ns_t time DOC("of the last packet, to a tick of the kernel's clock (1 to 10 ms)");
	ns_t first DOC("of the interval's first packet");
	count_t packets_sent DOC("packets; a run that the device cuts up (GSO) is as many");
	count_t packets_received DOC("packets");
	bytes_t bytes_sent DOC("bytes of IP packets, their headers included");
	bytes_t bytes_received DOC("bytes of IP packets, their headers included");
	socket_t socket DOC("the kernel's cookie of the socket");
	cgroup_t cgroup DOC("of the owner; of the socket where no process is known");
	netns_t netns DOC("where the socket is");
	process_t pid DOC("of the owner; 0: not known, or the kernel itself");
	address_t local DOC("this end's address, in the packet");
	address_t remote DOC("the other end's address, in the packet");
	port_t local_port DOC("this end's port; 0: the protocol has none, or a later fragment");
	port_t remote_port DOC("the other end's port");
	enum_t protocol DOC("IP protocol number");
	family_t family DOC("of the packets: a v4-mapped IPv6 socket is 4");
	enum_t message DOC("whether ICMP asks or answers");
	enum_t direction DOC("who sent first");
	enum_t owner_source DOC("how the owner is known");
	flag_t kernel DOC("the socket is the kernel's own");
	__u8 pad[6];
	comm_t comm DOC("name of the owner's process");
};

struct flow_key {
	socket_t socket;
	address_t local;
	address_t remote;
	port_t local_port;
	port_t remote_port;
	enum_t protocol;
	family_t family;
	enum_t message;
	__u8 pad;
};

/*
 * One a CPU. What is of the first packet is set on the CPU that saw it, 0 on others. Ticks are
 * jiffies: good for "last seen", and the cheapest clock of all; user space knows their length.
 */
struct flow_counts {
	count_t packets_sent;
	count_t packets_received;
	bytes_t bytes_sent;
	bytes_t bytes_received;
	ns_t first;
	__u32 first_tick;
	__u32 last_tick;
	enum_t direction; /* of the first packet */
	__u8 pad[7];
};

/* Whose socket it is. */
struct flow_owner {
	ns_t created; /* 0: the socket existed before the probe */
	cgroup_t cgroup;
	comm_t comm;
	process_t pid;
	netns_t netns;
	enum_t owner_source;
	flag_t kernel;
	__u8 pad[6];
};

/* Sockets that live. Filled when one is made, by the iterator, and by senders. */
BOUNDED(flow_sockets, BPF_MAP_TYPE_HASH, __u64, struct flow_owner, 8192);

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* More fields of the kernel's types than kernel.h has; CO-RE drops what follows the ___. */
struct socket___flow {
	struct file *file;
};

struct sock___flow {
	struct socket___flow *sk_socket;
};

#pragma clang attribute pop

static __always_inline void put_process(struct flow_owner *owner, struct task_struct *task,
					enum_t source)
{
	owner->cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	owner->pid = BPF_CORE_READ(task, tgid);
	/* As text: what follows the NUL in the kernel may be rests of an older name. */
	__builtin_memset(&owner->comm, 0, sizeof(owner->comm));
	BPF_CORE_READ_STR_INTO(&owner->comm, task, group_leader, comm);
	owner->owner_source = source;
}

static __always_inline netns_t socket_netns(const struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

#endif
