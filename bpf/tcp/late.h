/* SPDX-License-Identifier: GPL-2.0 */
/* Failures, and what is told late or counted, because the kernel ran no program when it happened.
 */
#ifndef FATHOM_LATE_H
#define FATHOM_LATE_H

#include "emit.h"

__u64 tcp_held; /* how many entries wait for tcp_destroy_sock */

/* Counts the entry of a socket that is gone, and whose end no program was shown. */
static __always_inline void give_up(const struct tcp_socket *s)
{
	if (s->held) /* only the end of its file was not shown */
		__sync_fetch_and_add(&tcp_held, -1);
	REFUSE(tcp_unseen, 0, 0, 0);
}

static __always_inline void fail(struct tcp_socket *s, const struct sock *sk,
				 const struct tcp_sock *tp)
{
	struct tcp_event *e = &s->event;

	e->kind = TCP_EVENT_KIND_FAILED;
	e->latency = e->time - s->opened;
	e->packets_sent = tp->segs_out;
	e->packets_received = tp->segs_in;
	e->retransmits = tp->total_retrans;
	if (sk->__sk_common.skc_dport)
		put_place(e, sk, tp);
	else /* after a blocking connect: only this is left */
		e->local_port = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
}

/* Told late: what established it was not shown to any program. */
static __always_inline void establish_late(struct tcp_socket *s, const struct sock *sk,
					   const struct tcp_sock *tp)
{
	s->event.kind = TCP_EVENT_KIND_ESTABLISHED;
	s->opened = s->event.time; /* so that its duration is told as not known */
	put_place(&s->event, sk, tp);
	emit(&s->event);
}

/*
 * A connection that could not be made, and whose failure no program was shown: its file is closed
 * now. Why it failed, the socket has told its caller, who took that away; when, is not known.
 */
static __always_inline void fail_late(struct tcp_socket *s, const struct sock *sk,
				      const struct tcp_sock *tp)
{
	s->event.time = bpf_ktime_get_ns();
	s->event.reason = error_reason(sk->sk_err);
	fail(s, sk, tp);
	s->event.latency = 0;
	emit(&s->event);
}

#endif
