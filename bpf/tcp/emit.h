/* SPDX-License-Identifier: GPL-2.0 */
/* How an event is filled from its socket, and sent: into the ring, or into the count of what it
 * refused. */
#ifndef FATHOM_EMIT_H
#define FATHOM_EMIT_H

#include "tcp.h"
#include "payload.h"
#include <asm/errno.h>

/* What a full ring refused, by whom and of what kind: totals stay exact when events are lost. */
struct tcp_refusal {
	cgroup_t cgroup;
	enum_t kind;
	enum_t direction;
	enum_t reason;
	__u8 pad[5];
};

RING(tcp_events, struct tcp_event, 1 << 22);
BOUNDED(tcp_refusals, BPF_MAP_TYPE_PERCPU_HASH, struct tcp_refusal, struct refused, 1024);

static __always_inline void put_place(struct tcp_event *e, const struct sock *sk,
				      const struct tcp_sock *tp)
{
	e->netns = sk->__sk_common.skc_net.net->ns.inum;
	e->local_port = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
	e->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (sk->__sk_common.skc_family == AF_INET6) {
		const __u64 *local = (const __u64 *)&sk->__sk_common.skc_v6_rcv_saddr;
		const __u64 *remote = (const __u64 *)&sk->__sk_common.skc_v6_daddr;

		((__u64 *)&e->remote)[0] = remote[0];
		((__u64 *)&e->remote)[1] = remote[1];
		if (!v4_mapped(&e->remote)) {
			e->family = 6;
			((__u64 *)&e->local)[0] = local[0];
			((__u64 *)&e->local)[1] = local[1];
			return;
		}
	}
	e->family = 4;
	put_ipv4(&e->local, sk->__sk_common.skc_rcv_saddr);
	put_ipv4(&e->remote, sk->__sk_common.skc_daddr);
}

static __always_inline void look(struct positions *p, const struct sock *sk,
				 const struct tcp_sock *tp, int state)
{
	p->bytes_acked = tp->bytes_acked;
	p->snd_una = tp->snd_una;
	p->write_seq = tp->write_seq;
	p->bytes_received = tp->bytes_received;
	p->rcv_nxt = tp->rcv_nxt;
	p->copied_seq = tp->copied_seq;
	p->fin_queued = sends_fin(state);
	p->fin_came = sk->__sk_common.skc_flags & (1UL << SOCK_DONE);
}

/* By name if there is room for another name, and in total in any case (OUTPUT did that). */
static __always_inline void name_refused(const struct tcp_event *e)
{
	struct tcp_refusal who = {
	    .cgroup = e->cgroup,
	    .kind = e->kind,
	    .direction = e->direction,
	    .reason = e->reason,
	};
	struct refused *to = bpf_map_lookup_elem(&tcp_refusals, &who), none = {};

	if (!to) {
		bpf_map_update_elem(&tcp_refusals, &who, &none, BPF_NOEXIST);
		to = bpf_map_lookup_elem(&tcp_refusals, &who);
	}
	if (to)
		add_refused(to, 0, e->bytes_sent, e->bytes_received);
	else
		REFUSE(tcp_refusals, 0, e->bytes_sent, e->bytes_received);
}

static __always_inline void emit(struct tcp_event *e)
{
	if (!OUTPUT(tcp_events, e, 0, e->bytes_sent, e->bytes_received))
		name_refused(e);
}

static __always_inline enum_t error_reason(int err)
{
	switch (err) {
	case 0:
		return TCP_EVENT_REASON_NONE;
	case ECONNREFUSED:
		return TCP_EVENT_REASON_REFUSED;
	case ECONNRESET:
	case EPIPE: /* a reset that came after the peer's FIN */
		return TCP_EVENT_REASON_RESET;
	case ETIMEDOUT:
		return TCP_EVENT_REASON_TIMEOUT;
	case ECONNABORTED: /* an administrator's doing: sock_diag destroyed it */
		return TCP_EVENT_REASON_ABANDONED;
	default: /* what ICMP said */
		return TCP_EVENT_REASON_UNREACHABLE;
	}
}

static __always_inline void put_counters(struct tcp_socket *s, const struct tcp_sock *tp,
					 const struct positions *p)
{
	struct tcp_event *e = &s->event;

	e->bytes_sent = payload_sent(p, e->direction == TCP_EVENT_DIRECTION_EGRESS) - s->sent;
	e->bytes_received = payload_received(p) - s->received;
	e->packets_sent = tp->segs_out - s->packets_sent;
	e->packets_received = tp->segs_in - s->packets_received;
	e->retransmits = tp->total_retrans - s->retransmits;
	e->srtt = tp->srtt_us >> 3;
}

/* Connections whose beginning or end no program was run for. What they carried is not known. */
LOSS_COUNTER(tcp_unseen_refused);

/* When the iterator looked first; 0: not yet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, ns_t);
} tcp_looked SEC(".maps");

/* Longer than most go on that were there before and that the iterator could not see: closed by
 * their owner, or waiting in an accept queue. */
#define HIDDEN_NS 300000000000ULL

/* Accepted here, and not older than the probe. Nothing proves it of one that was not accepted: the
 * kernel's own connections are in no file, and go on for days. */
static __always_inline bool began_unseen(const struct sock *sk, const struct tcp_sock *tp,
					 int before)
{
	__u32 zero = 0;
	ns_t *looked = bpf_map_lookup_elem(&tcp_looked, &zero);
	struct tcp_place place = {
	    .netns = sk->__sk_common.skc_net.net->ns.inum,
	    .port = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport),
	};

	return before != TCP_SYN_SENT && looked && *looked &&
	       bpf_ktime_get_ns() > *looked + HIDDEN_NS &&
	       bpf_map_lookup_elem(&tcp_listeners, &place);
}

/*
 * A connection that is not in the map was refused there, if the map ever refused one. Else it is
 * older than the probe, and the iterator could not see it, or its beginning was not shown. Whether
 * its SYN is in bytes_acked is told by the other way to count.
 */
static __always_inline void untracked(const struct sock *sk, const struct tcp_sock *tp, int before)
{
	struct positions p;
	bytes_t sent;
	__u32 unsent;

	if (before == TCP_SYN_RECV)
		return;
	if (!has_overflowed()) {
		if (began_unseen(sk, tp, before))
			REFUSE(tcp_unseen, 0, 0, 0);
		return;
	}
	if (before == TCP_SYN_SENT) {
		REFUSE(tcp_sockets, 0, 0, 0);
		return;
	}
	look(&p, sk, tp, before);
	sent = payload_sent(&p, 0);
	unsent = tp->write_seq - tp->snd_nxt;
	if (unsent && p.fin_queued)
		unsent--;
	if (bpf_core_field_exists(tp->bytes_retrans) &&
	    tp->bytes_sent - tp->bytes_retrans + unsent < sent)
		sent--;
	REFUSE(tcp_sockets, 0, sent, payload_received(&p));
}

#endif
