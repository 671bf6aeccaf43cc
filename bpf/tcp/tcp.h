/* SPDX-License-Identifier: GPL-2.0 */
/* What tcp.bpf.c and sockets.bpf.c share: the state of one socket, and how a socket is read. */
#ifndef FATHOM_TCP_H
#define FATHOM_TCP_H

#include "loss.h"

#define IPPROTO_TCP 6

enum tcp_event_kind {
	TCP_EVENT_KIND_ESTABLISHED = 1,
	TCP_EVENT_KIND_CLOSED,
	TCP_EVENT_KIND_FAILED,
	TCP_EVENT_KIND_OPEN,	  /* a row of the iterator: a connection that is open now */
	TCP_EVENT_KIND_LISTENING, /* a row of the iterator: a listener */
};

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

/* How the owner is known; the numbers are those of fathom.events.observations.OwnerSource. */
enum tcp_event_owner_source {
	TCP_EVENT_OWNER_SOURCE_UNKNOWN = 0,
	TCP_EVENT_OWNER_SOURCE_CONNECT = 1,
	TCP_EVENT_OWNER_SOURCE_CLOSE = 2,
	TCP_EVENT_OWNER_SOURCE_TASK_FILE = 3,
	TCP_EVENT_OWNER_SOURCE_LISTENER = 5,
};

struct owner {
	cgroup_t cgroup;
	comm_t comm;
	process_t pid;
	enum_t source;
	__u8 pad[3];
};

/* The state of a socket between its events. */
struct tcp_socket {
	ns_t opened;	   /* connect was called, or the handshake ended, or the iterator met it */
	ns_t latency;	   /* of the handshake; 0 where it was not seen */
	bytes_t told_sent; /* what user space was told already by the iterator */
	bytes_t told_received;
	struct owner owner;
	enum_t direction;
	__u8 told;   /* the connection itself was told by the iterator */
	__u8 before; /* it existed before the probe */
	__u8 held;   /* not 0: the state it died in; its event waits for the process that closes the
			file */
	__u8 pad[4];
};

/* One record of the ring, and one row of the iterator. */
struct tcp_event {
	ns_t time;
	ns_t opened;  /* with socket, names the connection */
	ns_t latency; /* of the handshake; of a failure, until it failed; 0 where it was not seen */
	bytes_t bytes_sent;	/* payload that the program handed over */
	bytes_t bytes_received; /* payload that the kernel took in order */
	bytes_t told_sent;	/* of these, told by earlier rows of the iterator */
	bytes_t told_received;
	socket_t socket;
	cgroup_t cgroup;
	comm_t comm;
	address_t local;
	address_t remote;
	netns_t netns;
	process_t pid;
	packets_t packets_sent;
	packets_t packets_received;
	packets_t retransmits;
	us_t srtt;
	port_t local_port;
	port_t remote_port;
	enum_t family; /* 4 or 6; a v4-mapped socket is 4 */
	enum_t kind;
	enum_t direction;
	enum_t reason;
	enum_t owner_source;
	enum_t told;   /* 1: the iterator told of this connection before */
	enum_t before; /* 1: it existed before the probe did */
	__u8 pad[5];
};

BOUNDED(tcp_sockets, BPF_MAP_TYPE_HASH, __u64, struct tcp_socket, 16384);

/* What a ring that was full refused, by whom and how: totals stay exact when events are lost. */
struct tcp_refused_key {
	cgroup_t cgroup;
	enum_t kind;
	enum_t direction;
	enum_t reason;
	__u8 pad[5];
};

static __always_inline bool owner_unknown(const struct tcp_socket *s)
{
	return s->owner.source == TCP_EVENT_OWNER_SOURCE_LISTENER ||
	       s->owner.source == TCP_EVENT_OWNER_SOURCE_UNKNOWN;
}

static __always_inline void put_ipv4(address_t *to, __be32 address)
{
	__builtin_memset(to->octets, 0, 10);
	to->octets[10] = 0xff;
	to->octets[11] = 0xff;
	__builtin_memcpy(&to->octets[12], &address, 4);
}

/* v4-mapped: ::ffff:a.b.c.d on an AF_INET6 socket is IPv4 on the wire. */
static __always_inline bool v4_mapped(const address_t *a)
{
	const __u32 *word = (const __u32 *)a->octets;

	return !word[0] && !word[1] && word[2] == bpf_htonl(0xffff);
}

#endif
