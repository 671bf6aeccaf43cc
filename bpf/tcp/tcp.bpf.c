// SPDX-License-Identifier: GPL-2.0
/*
 * TCP connections from the state machine: one event when one is established, one when it closed,
 * one when it failed.
 *
 * Everything hangs on one tracepoint, inet_sock_set_state. A second, tcp_destroy_sock, is there for
 * sockets that died by reset or timeout while nobody looked: their event waits for the process that
 * closes the file, since only then is it known whose connection it was.
 */
#include "tcp.h"
#include <asm/errno.h>

char LICENSE[] SEC("license") = "GPL";

NAMED(tcp_event_kind);
NAMED(tcp_event_direction);
NAMED(tcp_event_reason);
NAMED(tcp_event_owner_source);
RING(tcp_events, struct tcp_event, 1 << 22);
LOSS_COUNTER(tcp_untracked_refused);
BOUNDED(tcp_refusals, BPF_MAP_TYPE_PERCPU_HASH, struct tcp_refused_key, struct refused, 1024);

static __always_inline cgroup_t socket_cgroup(const struct sock *sk)
{
	struct sock_cgroup_data___old *old = (void *)&sk->sk_cgrp_data;
	struct cgroup *cgroup;

	if (bpf_core_field_exists(sk->sk_cgrp_data.cgroup)) {
		cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	} else {
		__u64 val = BPF_CORE_READ(old, val);

		if (val & 1) /* a v1 class id, not a pointer */
			return 0;
		cgroup = (void *)(val & ~3ULL);
	}
	return BPF_CORE_READ(cgroup, kn, id);
}

/* The process that runs now, and its cgroup. Only right in process context. */
static __always_inline void own(struct owner *owner, enum_t source)
{
	struct task_struct *task = (void *)bpf_get_current_task(), *leader;

	leader = BPF_CORE_READ(task, group_leader);
	owner->cgroup = bpf_get_current_cgroup_id();
	owner->pid = bpf_get_current_pid_tgid() >> 32;
	owner->source = source;
	bpf_core_read(&owner->comm, sizeof(owner->comm), &leader->comm);
}

static __always_inline void put_addresses(struct tcp_event *e, const struct sock *sk)
{
	e->family = 6;
	if (sk->__sk_common.skc_family == AF_INET6) {
		bpf_core_read(&e->local, sizeof(e->local), &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(&e->remote, sizeof(e->remote), &sk->__sk_common.skc_v6_daddr);
		if (v4_mapped(&e->remote)) {
			e->family = 4;
			put_ipv4(&e->local, sk->__sk_common.skc_rcv_saddr);
		}
	} else {
		e->family = 4;
		put_ipv4(&e->local, sk->__sk_common.skc_rcv_saddr);
		put_ipv4(&e->remote, sk->__sk_common.skc_daddr);
	}
}

/*
 * Payload as send and recv count it. The kernel's bytes_sent holds retransmissions, and
 * bytes_received the peer's FIN. What the program handed over and a reset cut off never left: it is
 * what write_seq is ahead of snd_nxt, less our own FIN where that was queued too.
 */
static __always_inline bytes_t payload_sent(const struct tcp_sock *tp, int state)
{
	__u32 unsent = tp->write_seq - tp->snd_nxt;
	bytes_t sent = tp->bytes_sent - tp->bytes_retrans;

	if (unsent && (state == TCP_FIN_WAIT1 || state == TCP_LAST_ACK || state == TCP_CLOSING))
		unsent--;
	return sent + unsent;
}

static __always_inline bytes_t payload_received(const struct tcp_sock *tp, const struct sock *sk)
{
	bytes_t received = tp->bytes_received;

	if (received && (sk->__sk_common.skc_flags & (1UL << SOCK_DONE)))
		received--;
	return received;
}

/* The ring is full: count who lost what, by name if there is room for another name, else in total
 * only. */
static __always_inline void refuse_event(const struct tcp_refused_key *key, bytes_t sent,
					 bytes_t received)
{
	struct refused *lost, first = {.count = 1, .bytes_sent = sent, .bytes_received = received};

	REFUSE(tcp_events, 0, sent, received);
	lost = bpf_map_lookup_elem(&tcp_refusals, key);
	if (lost) {
		lost->count++;
		lost->bytes_sent += sent;
		lost->bytes_received += received;
	} else if (bpf_map_update_elem(&tcp_refusals, key, &first, BPF_NOEXIST)) {
		REFUSE(tcp_refusals, 0, sent, received);
	}
}

static __always_inline enum_t failure(const struct sock *sk, const struct tcp_sock *tp)
{
	switch (sk->sk_err) {
	case ECONNREFUSED:
		return TCP_EVENT_REASON_REFUSED;
	case ECONNRESET:
		return TCP_EVENT_REASON_RESET;
	case ETIMEDOUT:
		return TCP_EVENT_REASON_TIMEOUT;
	case 0: /* nobody told the socket: its caller gave up, or it never sent a segment */
		return tp->segs_out ? TCP_EVENT_REASON_ABANDONED : TCP_EVENT_REASON_LOCAL_ERROR;
	default:
		return TCP_EVENT_REASON_UNREACHABLE;
	}
}

static __always_inline void emit(const struct sock *sk, const struct tcp_sock *tp,
				 const struct tcp_socket *s, ns_t now, enum_t kind, int state)
{
	bytes_t sent = 0, received = 0;
	struct tcp_event *e;
	enum_t reason = 0;

	if (kind == TCP_EVENT_KIND_CLOSED) {
		sent = payload_sent(tp, state);
		received = payload_received(tp, sk);
	} else if (kind == TCP_EVENT_KIND_FAILED) {
		reason = failure(sk, tp);
	}
	e = RESERVE(tcp_events);
	if (!e) {
		struct tcp_refused_key key = {
		    .cgroup = s->owner.cgroup,
		    .kind = kind,
		    .direction = s->direction,
		    .reason = reason,
		};

		refuse_event(&key, sent - s->told_sent, received - s->told_received);
		return;
	}
	e->time = now;
	e->opened = s->opened;
	e->latency = kind == TCP_EVENT_KIND_FAILED ? now - s->opened : s->latency;
	e->bytes_sent = sent;
	e->bytes_received = received;
	e->told_sent = s->told_sent;
	e->told_received = s->told_received;
	e->socket = (socket_t)sk;
	e->cgroup = s->owner.cgroup;
	e->comm = s->owner.comm;
	put_addresses(e, sk);
	e->netns = sk->__sk_common.skc_net.net->ns.inum;
	e->pid = s->owner.pid;
	e->packets_sent = tp->segs_out;
	e->packets_received = tp->segs_in;
	e->retransmits = tp->total_retrans;
	e->srtt = tp->srtt_us >> 3;
	e->local_port = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
	e->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	e->kind = kind;
	e->direction = s->direction;
	e->reason = reason;
	e->owner_source = s->owner.source;
	e->told = s->told;
	e->before = s->before;
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	SUBMIT(e);
}

/* connect was called: process context, and the start of the handshake's latency. */
static __always_inline void begin(__u64 key)
{
	struct tcp_socket s = {.opened = bpf_ktime_get_ns(),
			       .direction = TCP_EVENT_DIRECTION_EGRESS};

	own(&s.owner, TCP_EVENT_OWNER_SOURCE_CONNECT);
	/* Two events will be missing: how it began and how it ended. Its bytes are counted at its
	 * close. */
	if (bpf_map_update_elem(&tcp_sockets, &key, &s, BPF_ANY))
		REFUSE(tcp_sockets, 0, 0, 0);
}

static __always_inline void establish(const struct sock *sk, __u64 key, int before)
{
	ns_t now = bpf_ktime_get_ns();
	struct tcp_socket *s, accepted = {};
	const struct tcp_sock *tp;

	tp = bpf_skc_to_tcp_sock((void *)sk);
	if (!tp)
		return;
	s = bpf_map_lookup_elem(&tcp_sockets, &key);
	if (s && s->direction == TCP_EVENT_DIRECTION_EGRESS) {
		s->latency = now - s->opened;
		s->opened = now;
		emit(sk, tp, s, now, TCP_EVENT_KIND_ESTABLISHED, 0);
		return;
	}
	if (before != TCP_SYN_RECV)
		return; /* its connect was refused by a full map, and counted there */
	/*
	 * The third packet of the handshake: whatever runs now is not the server. Its cgroup so far
	 * is that of the listener's creator, its latency what the kernel made of the SYN and its
	 * answer.
	 */
	accepted.opened = now;
	accepted.latency = (ns_t)(tp->srtt_us >> 3) * 1000;
	accepted.direction = TCP_EVENT_DIRECTION_INGRESS;
	accepted.owner.cgroup = socket_cgroup(sk);
	accepted.owner.source = TCP_EVENT_OWNER_SOURCE_LISTENER;
	if (bpf_map_update_elem(&tcp_sockets, &key, &accepted, BPF_ANY)) {
		REFUSE(tcp_sockets, 0, 0, 0);
		return;
	}
	emit(sk, tp, &accepted, now, TCP_EVENT_KIND_ESTABLISHED, 0);
}

/* close or shutdown was called on an open connection: process context, its owner's. */
static __always_inline void closing(__u64 key)
{
	struct tcp_socket *s = bpf_map_lookup_elem(&tcp_sockets, &key);

	if (s && owner_unknown(s))
		own(&s->owner, TCP_EVENT_OWNER_SOURCE_CLOSE);
}

static __always_inline void closed(const struct sock *sk, __u64 key, int before)
{
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	struct tcp_socket *s;
	enum_t kind;

	if (!tp)
		return;
	s = bpf_map_lookup_elem(&tcp_sockets, &key);
	if (!s) {
		/* Untracked: the map was full when it opened. What it carried is counted as lost.
		 */
		if (before != TCP_SYN_SENT)
			REFUSE(tcp_untracked, 0, payload_sent(tp, before),
			       payload_received(tp, sk));
		return;
	}
	if (owner_unknown(s)) {
		/* A reset or a timeout leaves an error, and whatever runs now is not the owner. */
		if (sk->sk_err) {
			s->held = before;
			return;
		}
		own(&s->owner, TCP_EVENT_OWNER_SOURCE_CLOSE);
	}
	kind = before == TCP_SYN_SENT ? TCP_EVENT_KIND_FAILED : TCP_EVENT_KIND_CLOSED;
	emit(sk, tp, s, bpf_ktime_get_ns(), kind, before);
	bpf_map_delete_elem(&tcp_sockets, &key);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, const struct sock *sk, int before, int after)
{
	__u64 key = (__u64)sk;

	if (after == TCP_FIN_WAIT2 || after == TCP_CLOSE_WAIT || after == TCP_TIME_WAIT)
		return 0;
	if (sk->sk_protocol != IPPROTO_TCP) /* MPTCP and SCTP pass here too */
		return 0;
	switch (after) {
	case TCP_SYN_SENT:
		begin(key);
		break;
	case TCP_ESTABLISHED:
		establish(sk, key, before);
		break;
	case TCP_FIN_WAIT1:
	case TCP_LAST_ACK:
		closing(key);
		break;
	case TCP_CLOSE:
		if (before != TCP_LISTEN && before != TCP_CLOSE)
			closed(sk, key, before);
		break;
	}
	return 0;
}

/* The socket's end. Only those whose event is held are still in the map. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_destroy, const struct sock *sk)
{
	const struct tcp_sock *tp;
	__u64 key = (__u64)sk;
	struct tcp_socket *s;

	s = bpf_map_lookup_elem(&tcp_sockets, &key);
	if (!s)
		return 0;
	tp = bpf_skc_to_tcp_sock((void *)sk);
	if (tp && s->held) {
		own(&s->owner, TCP_EVENT_OWNER_SOURCE_CLOSE);
		emit(sk, tp, s, bpf_ktime_get_ns(), TCP_EVENT_KIND_CLOSED, s->held);
	}
	bpf_map_delete_elem(&tcp_sockets, &key);
	return 0;
}
