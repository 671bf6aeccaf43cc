/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Payload as send and recv count it, from the positions in the two byte streams.
 *
 * Positions, and not bytes_sent - bytes_retrans: that counts a segment twice which the local queue
 * dropped (iptables, a full qdisc), and forgets what waits in the write queue when a reset comes.
 * SYN and FIN take a position each.
 */
#ifndef FATHOM_PAYLOAD_H
#define FATHOM_PAYLOAD_H

#include "kernel.h"
#include "units.h"

struct positions {
	__u64 bytes_acked; /* by the peer: moves with snd_una; holds our SYN if it was acknowledged
			      here */
	__u32 snd_una;
	__u32 write_seq;
	__u64 bytes_received; /* moves with rcv_nxt; holds the peer's FIN */
	__u32 rcv_nxt;
	__u32 copied_seq; /* up to where recv has read, the FIN included */
	bool fin_queued;  /* ours */
	bool fin_came;	  /* the peer's */
};

static __always_inline bool sends_fin(int state)
{
	return state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING ||
	       state == TCP_LAST_ACK;
}

/* All that send accepted: what was acknowledged, and what was not. `syn`: 1 where ours is in it. */
static __always_inline bytes_t payload_sent(const struct positions *p, __u32 syn)
{
	return p->bytes_acked + (__u32)(p->write_seq - p->snd_una) - syn - p->fin_queued;
}

/* All that recv returned: what came in order, less what nobody has read. A FIN that nobody has read
 * is in both. */
static __always_inline bytes_t payload_received(const struct positions *p)
{
	__u32 unread = p->rcv_nxt - p->copied_seq;

	return p->bytes_received - unread - (p->fin_came && !unread);
}

#endif
