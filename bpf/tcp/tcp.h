/* SPDX-License-Identifier: GPL-2.0 */
/* What tcp.bpf.c and sockets.bpf.c share: the record, the state of a socket, the maps. */
#ifndef FATHOM_TCP_H
#define FATHOM_TCP_H

#include "loss.h"

#define IPPROTO_TCP 6 /* include/uapi/linux/in.h */

enum tcp_event_kind {
	TCP_EVENT_KIND_ESTABLISHED = 1,
	TCP_EVENT_KIND_CLOSED,
	TCP_EVENT_KIND_FAILED,
	TCP_EVENT_KIND_OPEN,
};

/* The numbers of these three are those of fathom.events.observations. */
enum tcp_event_direction {
	TCP_EVENT_DIRECTION_UNKNOWN,
	TCP_EVENT_DIRECTION_EGRESS,
	TCP_EVENT_DIRECTION_INGRESS,
};

enum tcp_event_reason {
	TCP_EVENT_REASON_NONE,
	TCP_EVENT_REASON_REFUSED,
	TCP_EVENT_REASON_RESET,
	TCP_EVENT_REASON_UNREACHABLE,
	TCP_EVENT_REASON_TIMEOUT,
	TCP_EVENT_REASON_ABANDONED,
	TCP_EVENT_REASON_LOCAL_ERROR,
};

enum tcp_event_owner_source {
	TCP_EVENT_OWNER_SOURCE_UNKNOWN = 0,
	TCP_EVENT_OWNER_SOURCE_CONNECT = 1,
	TCP_EVENT_OWNER_SOURCE_CLOSE = 2,
	TCP_EVENT_OWNER_SOURCE_TASK_FILE = 3,
	TCP_EVENT_OWNER_SOURCE_LISTENER = 5,
	TCP_EVENT_OWNER_SOURCE_SOCKET = 6,
};

/* One record of the ring, and one row of the iterator. */
struct DOC(
    "A TCP connection was established, was closed, could not be made, or is open") tcp_event {
	ns_t time DOC("when it happened");
	ns_t latency
	    DOC("of the handshake; of a failure, from connect until it failed; 0: not seen");
	ns_t duration DOC("from established to now, or to closed; 0: not seen");
	bytes_t bytes_sent DOC("payload that send accepted, since the probe saw the connection");
	bytes_t
	    bytes_received DOC("payload that recv returned, since the probe saw the connection");
	socket_t socket DOC("names the connection in all its events");
	cgroup_t cgroup DOC("of the owner");
	netns_t netns DOC("where the socket is");
	process_t pid DOC("of the owner; 0: not known");
	packets_t packets_sent DOC("segments, those without payload too");
	packets_t packets_received DOC("segments, those without payload too");
	packets_t retransmits DOC("segments that were sent again");
	us_t srtt DOC("smoothed round-trip time, as TCP itself has it; 0: not measured");
	address_t local DOC("this end's address");
	address_t remote DOC("the other end's address, as the program sees it (before any NAT)");
	port_t local_port DOC("this end's port");
	port_t remote_port DOC("the other end's port");
	family_t family DOC("of the packets: a v4-mapped IPv6 socket is 4");
	enum_t kind DOC("what happened");
	enum_t direction DOC("who opened it: egress connect, ingress accept");
	enum_t reason DOC("why it failed (empty: that was not shown), or ended other than by FIN");
	enum_t owner_source DOC("how the owner is known");
	flag_t before DOC("the connection is older than the probe");
	__u8 pad[6];
	comm_t comm DOC("name of the owner's process");
};

/*
 * The state of a connection is its event in the making: what does not change is put in once, so
 * that its events are copies of it.
 */
struct tcp_socket {
	struct tcp_event event;
	ns_t opened;  /* connect was called; then: the handshake ended */
	bytes_t sent; /* of a connection from before: what it had then */
	bytes_t received;
	packets_t packets_sent;
	packets_t packets_received;
	packets_t retransmits;
	flag_t held; /* over, but its file is open: what recv still returns counts, and who closes
			it */
	enum_t made; /* the last change of state that was dealt with, as the state it led to */
	__u8 pad[2];
};

/* Who listens at a port: the owner of accepted connections for as long as nothing better is known.
 */
struct tcp_place {
	netns_t netns;
	__u32 port;
};

struct tcp_listener {
	cgroup_t cgroup;
	comm_t comm;
	process_t pid; /* 0: more than one process */
	__u32 sockets;
};

BOUNDED(tcp_sockets, BPF_MAP_TYPE_HASH, __u64, struct tcp_socket, 16384);
BOUNDED(tcp_listeners, BPF_MAP_TYPE_HASH, struct tcp_place, struct tcp_listener, 4096);

/* 1 once tcp_sockets has refused a connection: from then on one that is not in it was refused, and
 * not older than the probe and hidden from the iterator (in an accept queue, in flight between
 * processes). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} tcp_overflowed SEC(".maps");

static __always_inline void overflowed(void)
{
	__u32 zero = 0, one = 1;

	bpf_map_update_elem(&tcp_overflowed, &zero, &one, BPF_ANY);
}

static __always_inline bool has_overflowed(void)
{
	__u32 zero = 0, *full = bpf_map_lookup_elem(&tcp_overflowed, &zero);

	return full && *full;
}

/* What is behind the first zero byte may be the rest of an older name. */
static __always_inline __u64 up_to_nul(__u64 word)
{
	__u64 zeros = (word - 0x0101010101010101) & ~word & 0x8080808080808080;

	return zeros ? word & (((zeros & -zeros) >> 7) - 1) : word;
}

static __always_inline void put_comm(comm_t *to, __u64 first, __u64 second)
{
	__u64 *half = (__u64 *)to;

	half[0] = up_to_nul(first);
	half[1] = half[0] == first && first >> 56 ? up_to_nul(second) : 0;
}

/* Nothing better can be learned. */
static __always_inline bool owner_known(const struct tcp_event *e)
{
	return e->owner_source == TCP_EVENT_OWNER_SOURCE_CONNECT ||
	       e->owner_source == TCP_EVENT_OWNER_SOURCE_CLOSE;
}

static __always_inline void put_ipv4(address_t *to, __be32 address)
{
	__u64 *half = (__u64 *)to;

	half[0] = 0;
	half[1] = (__u64)address << 32 | 0xffff0000; /* ::ffff:0:0/96, little-endian words */
}

/* ::ffff:a.b.c.d on an AF_INET6 socket is IPv4 on the wire. */
static __always_inline bool v4_mapped(const address_t *a)
{
	const __u64 *half = (const __u64 *)a;

	return !half[0] && (__u32)half[1] == 0xffff0000;
}

/* A number that no two connections share: two CPUs may begin one in the same nanosecond. */
static __always_inline socket_t name(ns_t now)
{
	return now << 8 | (bpf_get_smp_processor_id() & 0xff);
}

#endif
