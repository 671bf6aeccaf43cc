// SPDX-License-Identifier: GPL-2.0
/*
 * TCP connections from the state machine: one event when one is established, one when it was
 * closed, one when it could not be made.
 *
 * Both tracepoints run with the socket's lock held, or when nobody else can reach it, so the entry
 * of a socket has one writer at a time. tcp_destroy_sock is there for connections that a reset or a
 * timeout ended: whatever runs then is not the owner, so their event waits for the process that
 * closes the file.
 */
#include "tcp.h"
#include "emit.h"
#include "late.h"
#include "listener.h"
#include "made.h"
#include "owner.h"
#include "payload.h"

char LICENSE[] SEC("license") = "GPL";

NAMED(tcp_event_kind);
NAMED(tcp_event_direction);
NAMED(tcp_event_reason);
NAMED(tcp_event_owner_source);

/* The socket's end. Its receive queue is as recv left it, unless connect to AF_UNSPEC began it
 * anew. */
static __always_inline void release(const struct sock *sk, struct tcp_socket *s)
{
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	struct tcp_event *e = &s->event;
	struct positions p;

	if (!owner_known(e))
		own(e, TCP_EVENT_OWNER_SOURCE_CLOSE);
	if (tp && tp->bytes_received) {
		look(&p, sk, tp, TCP_CLOSE);
		e->bytes_received = payload_received(&p) - s->received;
	}
	emit(e);
	__sync_fetch_and_add(&tcp_held, -1);
}

/* False: no room. */
static __always_inline bool remember(__u64 key, const struct tcp_socket *s)
{
	struct tcp_socket *stale;

	if (!bpf_map_update_elem(&tcp_sockets, &key, s, BPF_NOEXIST))
		return true;
	stale = bpf_map_lookup_elem(&tcp_sockets, &key);
	if (stale) {
		give_up(stale);
		if (!bpf_map_update_elem(&tcp_sockets, &key, s, BPF_ANY))
			return true;
	}
	overflowed();
	return false;
}

/*
 * connect was called: process context, and the start of the handshake's latency. The place is put
 * in now, but for the port of this end: a blocking connect that fails takes it out of the socket.
 */
static __always_inline void begin(const struct sock *sk, __u64 key)
{
	struct tcp_socket s = {.opened = bpf_ktime_get_ns(), .made = TCP_SYN_SENT}, *old;
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);

	if (!tp)
		return;
	if (tcp_held) { /* the same socket again, whose last connection is over */
		old = bpf_map_lookup_elem(&tcp_sockets, &key);
		if (old && old->held) {
			release(sk, old);
			bpf_map_delete_elem(&tcp_sockets, &key);
		}
	}
	s.event.socket = name(s.opened);
	s.event.direction = TCP_EVENT_DIRECTION_EGRESS;
	put_place(&s.event, sk, tp);
	if (!own(&s.event, TCP_EVENT_OWNER_SOURCE_CONNECT)) {
		s.event.cgroup = socket_cgroup(sk);
		s.event.owner_source = TCP_EVENT_OWNER_SOURCE_SOCKET;
	}
	remember(key, &s); /* if refused, its events are counted when they would have been */
}

/*
 * The last packet of the handshake. For an accepted connection whatever runs now is not the server,
 * and SYN_RECV was entered a moment ago: the latency is what the kernel made of the SYN and its
 * answer, srtt_us in eighths of a microsecond.
 */
static __always_inline void establish(const struct sock *sk, __u64 key, int before)
{
	struct tcp_socket *s = bpf_map_lookup_elem(&tcp_sockets, &key), fresh = {};
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	ns_t now = bpf_ktime_get_ns();
	struct tcp_event *e;

	if (!tp)
		return;
	/* connect was called, and nothing came of it yet */
	if (s && !s->event.kind && !s->event.before) {
		e = &s->event;
		e->time = now;
		e->latency = now - s->opened;
		e->kind = TCP_EVENT_KIND_ESTABLISHED;
		put_place(e, sk, tp);
		s->opened = now;
		s->made = TCP_ESTABLISHED;
		emit(e);
		return;
	}
	e = &fresh.event;
	e->time = now;
	e->socket = name(now);
	e->kind = TCP_EVENT_KIND_ESTABLISHED;
	put_place(e, sk, tp);
	fresh.opened = now;
	fresh.made = TCP_ESTABLISHED;
	if (before == TCP_SYN_SENT) { /* connect was called before the probe came, or was refused */
		e->direction = TCP_EVENT_DIRECTION_EGRESS;
		e->cgroup = socket_cgroup(sk);
		e->owner_source = TCP_EVENT_OWNER_SOURCE_SOCKET;
	} else {
		e->direction = TCP_EVENT_DIRECTION_INGRESS;
		e->latency = (ns_t)tp->srtt_us * 125;
		stand_in(e, sk);
	}
	if (remember(key, &fresh))
		emit(e);
	else
		REFUSE(tcp_sockets, 0, 0, 0);
}

static __always_inline void establish_fast(const struct sock *sk, __u64 key)
{
	if (!bpf_map_lookup_elem(&tcp_sockets, &key))
		establish(sk, key, TCP_SYN_RECV);
}

/* close or shutdown was called: process context, the owner's. */
static __always_inline void leave(__u64 key)
{
	struct tcp_socket *s = bpf_map_lookup_elem(&tcp_sockets, &key);

	if (s && !owner_known(&s->event))
		own(&s->event, TCP_EVENT_OWNER_SOURCE_CLOSE);
}

static __always_inline void end(const struct sock *sk, __u64 key, int before)
{
	struct tcp_socket *s = bpf_map_lookup_elem(&tcp_sockets, &key);
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	int err = sk->sk_err;
	struct positions p;
	struct tcp_event *e;
	bool attempt;

	if (!tp)
		return;
	if (!s) {
		untracked(sk, tp, before);
		return;
	}
	s->made = TCP_CLOSE;
	e = &s->event;
	e->time = bpf_ktime_get_ns();
	attempt = before == TCP_SYN_SENT || (!e->kind && !e->before && !tp->bytes_acked);
	if (!attempt && !e->kind && !e->before)
		establish_late(s, sk, tp);
	e->reason = error_reason(err);
	look(&p, sk, tp, before);
	if (attempt) {
		fail(s, sk, tp);
		if (!err) /* nobody told the socket: the caller gave up, or nothing ever left */
			e->reason = tp->segs_out ? TCP_EVENT_REASON_ABANDONED
						 : TCP_EVENT_REASON_LOCAL_ERROR;
	} else {
		/* close with data unread, SO_LINGER 0, connect to AF_UNSPEC: process context */
		bool aborted = !err && (before == TCP_ESTABLISHED || before == TCP_CLOSE_WAIT ||
					before == TCP_SYN_RECV);

		e->kind = TCP_EVENT_KIND_CLOSED;
		e->duration = e->before ? 0 : e->time - s->opened;
		put_counters(s, tp, &p);
		if (aborted) {
			e->reason = TCP_EVENT_REASON_ABANDONED;
			if (!owner_known(e))
				own(e, TCP_EVENT_OWNER_SOURCE_CLOSE);
		} else if (!(sk->__sk_common.skc_flags & (1UL << SOCK_DEAD))) {
			s->held = 1;
			__sync_fetch_and_add(&tcp_held, 1);
			return;
		}
	}
	emit(e);
	bpf_map_delete_elem(&tcp_sockets, &key);
}

/* Most changes matter to nobody: out before the first map. */
static __always_inline bool matters(const struct sock *sk, int after)
{
	return after != TCP_FIN_WAIT2 && after != TCP_CLOSE_WAIT && after != TCP_SYN_RECV &&
	       after != TCP_CLOSING &&
	       sk->sk_protocol == IPPROTO_TCP; /* MPTCP and SCTP pass here too */
}

static __always_inline void change(const struct sock *sk, __u64 key, int before, int after)
{
	switch (after) {
	case TCP_SYN_SENT:
		begin(sk, key);
		break;
	case TCP_ESTABLISHED:
		establish(sk, key, before);
		break;
	case TCP_FIN_WAIT1:
		if (before == TCP_SYN_RECV) /* Fast Open: answered and closed before the last ACK */
			establish_fast(sk, key);
		leave(key);
		break;
	case TCP_LAST_ACK:
		leave(key);
		break;
	case TCP_LISTEN:
		listen(sk);
		break;
	case TCP_CLOSE:
		if (before == TCP_LISTEN)
			unlisten(sk);
		else if (before != TCP_CLOSE)
			end(sk, key, before);
		break;
	}
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, const struct sock *sk, int before, int after)
{
	__u64 key = (__u64)sk;

	if (matters(sk, after)) {
		change(sk, key, before, after);
		push(key, after);
	}
	return 0;
}

/*
 * What the first program pushed may have been overwritten by an interrupt: what the socket's own
 * entry says decides, so that no change is made twice. An entry that is gone was dealt with.
 */
static __always_inline bool is_made(__u64 key, int after)
{
	struct tcp_socket *s = bpf_map_lookup_elem(&tcp_sockets, &key);

	return s ? s->made == after : after == TCP_CLOSE;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state_again, const struct sock *sk, int before, int after)
{
	__u64 key = (__u64)sk;

	if (matters(sk, after) && !pop(key, after) && !is_made(key, after))
		change(sk, key, before, after);
	return 0;
}

/*
 * The end of a socket. Looked up are only some: while the event of any is held for this; and those
 * that nothing was ever acknowledged to. There are kernels that do not run tracing programs on top
 * of certain tasks: a timer or a packet that came while such a one ran may have ended a connection
 * attempt, or a connection, unseen.
 */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_destroy, const struct sock *sk)
{
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	__u64 key = (__u64)sk;
	struct tcp_socket *s;

	if (!tp || (!tcp_held && tp->bytes_acked))
		return 0;
	s = bpf_map_lookup_elem(&tcp_sockets, &key);
	if (!s)
		return 0;
	if (s->held)
		release(sk, s);
	else if (!s->event.kind && !s->event.before && !tp->bytes_acked)
		fail_late(s, sk, tp);
	else
		give_up(s);
	bpf_map_delete_elem(&tcp_sockets, &key);
	return 0;
}
