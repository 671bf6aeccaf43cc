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
#include "payload.h"
#include <asm/errno.h>

char LICENSE[] SEC("license") = "GPL";

NAMED(tcp_event_kind);
NAMED(tcp_event_direction);
NAMED(tcp_event_reason);
NAMED(tcp_event_owner_source);

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

__u64 tcp_held; /* how many entries wait for tcp_destroy_sock */

static __always_inline cgroup_t socket_cgroup(const struct sock *sk)
{
	struct sock_cgroup_data___old *old = (void *)&sk->sk_cgrp_data;
	struct cgroup *cgroup;

	if (bpf_core_field_exists(sk->sk_cgrp_data.cgroup)) {
		cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	} else {
		__u64 val = BPF_CORE_READ(old, val);

		if (val & 1) /* a class id of cgroup v1, not a pointer */
			return 0;
		cgroup = (void *)(val & ~3ULL);
	}
	return BPF_CORE_READ(cgroup, kn, id);
}

/* The process that runs now becomes the owner: only right in process context. A kernel thread is
 * never one: it closes files that others left. */
static __always_inline bool own(struct tcp_event *e, enum_t source)
{
	struct task_struct *task, *leader;
	__u64 half[2];

	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf)) {
		task = bpf_get_current_task_btf();
		if (task->flags & PF_KTHREAD)
			return false;
		leader = task->group_leader;
		put_comm(&e->comm, *(__u64 *)&leader->comm[0], *(__u64 *)&leader->comm[8]);
	} else {
		task = (void *)bpf_get_current_task();
		if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
			return false;
		leader = BPF_CORE_READ(task, group_leader);
		bpf_core_read(half, sizeof(half), &leader->comm);
		put_comm(&e->comm, half[0], half[1]);
	}
	e->cgroup = bpf_get_current_cgroup_id();
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->owner_source = source;
	return true;
}

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

/* connect was called: process context, and the start of the handshake's latency. */
static __always_inline void begin(const struct sock *sk, __u64 key)
{
	struct tcp_socket s = {.opened = bpf_ktime_get_ns()}, *old;

	if (tcp_held) { /* the same socket again, whose last connection is over */
		old = bpf_map_lookup_elem(&tcp_sockets, &key);
		if (old && old->held)
			release(sk, old);
	}
	s.event.socket = name(s.opened);
	s.event.direction = TCP_EVENT_DIRECTION_EGRESS;
	if (!own(&s.event, TCP_EVENT_OWNER_SOURCE_CONNECT)) {
		s.event.cgroup = socket_cgroup(sk);
		s.event.owner_source = TCP_EVENT_OWNER_SOURCE_SOCKET;
	}
	/* Its events are counted when they would have been. */
	if (bpf_map_update_elem(&tcp_sockets, &key, &s, BPF_ANY))
		overflowed();
}

/* An accepted connection has no owner yet: its listener stands in, where one process alone listens.
 */
static __always_inline void stand_in(struct tcp_event *e, const struct sock *sk)
{
	struct tcp_place place = {.netns = e->netns, .port = e->local_port};
	const struct tcp_listener *listener = bpf_map_lookup_elem(&tcp_listeners, &place);

	if (listener && listener->pid) {
		e->cgroup = listener->cgroup;
		e->pid = listener->pid;
		e->comm = listener->comm;
		e->owner_source = TCP_EVENT_OWNER_SOURCE_LISTENER;
	} else {
		e->cgroup = socket_cgroup(sk);
		e->owner_source = TCP_EVENT_OWNER_SOURCE_SOCKET;
	}
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
	if (s && !s->event.kind) { /* connect was called, and nothing came of it yet */
		e = &s->event;
		e->time = now;
		e->latency = now - s->opened;
		e->kind = TCP_EVENT_KIND_ESTABLISHED;
		put_place(e, sk, tp);
		s->opened = now;
		emit(e);
		return;
	}
	e = &fresh.event;
	e->time = now;
	e->socket = name(now);
	e->kind = TCP_EVENT_KIND_ESTABLISHED;
	put_place(e, sk, tp);
	fresh.opened = now;
	if (before == TCP_SYN_SENT) { /* connect was called before the probe came, or was refused */
		e->direction = TCP_EVENT_DIRECTION_EGRESS;
		e->cgroup = socket_cgroup(sk);
		e->owner_source = TCP_EVENT_OWNER_SOURCE_SOCKET;
	} else {
		e->direction = TCP_EVENT_DIRECTION_INGRESS;
		e->latency = (ns_t)tp->srtt_us * 125;
		stand_in(e, sk);
	}
	if (bpf_map_update_elem(&tcp_sockets, &key, &fresh, BPF_ANY)) {
		overflowed();
		REFUSE(tcp_sockets, 0, 0, 0);
		return;
	}
	emit(e);
}

/* close or shutdown was called: process context, the owner's. */
static __always_inline void leave(__u64 key)
{
	struct tcp_socket *s = bpf_map_lookup_elem(&tcp_sockets, &key);

	if (s && !owner_known(&s->event))
		own(&s->event, TCP_EVENT_OWNER_SOURCE_CLOSE);
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

/*
 * A connection that is not in the map was refused there, if the map ever refused one; else it is
 * older than the probe, and the iterator could not see it. Whether its SYN is in bytes_acked is
 * told by the other way to count.
 */
static __always_inline void untracked(const struct sock *sk, const struct tcp_sock *tp, int before)
{
	__u32 zero = 0, *full = bpf_map_lookup_elem(&tcp_overflowed, &zero), unsent;
	struct positions p;
	bytes_t sent;

	if (!full || !*full || before == TCP_SYN_RECV)
		return;
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

static __always_inline void end(const struct sock *sk, __u64 key, int before)
{
	struct tcp_socket *s = bpf_map_lookup_elem(&tcp_sockets, &key);
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	int err = sk->sk_err;
	struct positions p;
	struct tcp_event *e;

	if (!tp)
		return;
	if (!s) {
		untracked(sk, tp, before);
		return;
	}
	e = &s->event;
	e->time = bpf_ktime_get_ns();
	e->reason = error_reason(err);
	look(&p, sk, tp, before);
	if (before == TCP_SYN_SENT) {
		e->kind = TCP_EVENT_KIND_FAILED;
		e->latency = e->time - s->opened;
		e->packets_sent = tp->segs_out;
		e->packets_received = tp->segs_in;
		e->retransmits = tp->total_retrans;
		put_place(e, sk, tp);
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

static __always_inline void listen(const struct sock *sk)
{
	struct tcp_place place = {
	    .netns = sk->__sk_common.skc_net.net->ns.inum,
	    .port = sk->__sk_common.skc_num,
	};
	struct tcp_listener *old = bpf_map_lookup_elem(&tcp_listeners, &place), fresh = {};
	struct tcp_event e = {};

	if (!place.port) /* listen without bind: the port comes later, the iterator will see it */
		return;
	own(&e, TCP_EVENT_OWNER_SOURCE_LISTENER);
	if (old) {
		if (old->pid != e.pid)
			old->pid = 0;
		__sync_fetch_and_add(&old->sockets, 1);
		return;
	}
	fresh.cgroup = e.cgroup;
	fresh.comm = e.comm;
	fresh.pid = e.pid;
	fresh.sockets = 1;
	INSERT(tcp_listeners, &place, &fresh, BPF_ANY, 0, 0, 0);
}

/* Its port may be out of skc_num already, as at every close. */
static __always_inline void unlisten(const struct sock *sk)
{
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock((void *)sk);
	struct tcp_place place = {.netns = sk->__sk_common.skc_net.net->ns.inum};
	struct tcp_listener *old;

	if (!tp)
		return;
	place.port = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
	old = bpf_map_lookup_elem(&tcp_listeners, &place);
	if (old && old->sockets > 1)
		__sync_fetch_and_add(&old->sockets, -1);
	else
		bpf_map_delete_elem(&tcp_listeners, &place);
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

/*
 * Since 6.2 (05b24ff9b2cf, "bpf: Prevent bpf program recursion for raw tracepoint probes") the
 * kernel leaves out a program that already runs on this CPU. One in process context is interrupted
 * by softirq, and there a whole batch of packets may establish and close connections. So there are
 * two, attached one after the other: the second does what the first was left out of. They tell each
 * other by a stack of changes that were made and not yet seen by the second, of two levels, process
 * and softirq. While the second is itself left out, the first pushes again and again: the lower
 * level stays.
 */
struct tcp_change {
	__u64 key;
	__u64 after;
};

struct tcp_made {
	struct tcp_change level[2];
	__u64 depth;
	count_t rescued; /* changes that the second made */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tcp_made);
} tcp_made SEC(".maps");

static __always_inline struct tcp_made *made(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tcp_made, &zero);
}

static __always_inline bool is(const struct tcp_change *c, __u64 key, int after)
{
	return c->key == key && c->after == (__u64)after;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, const struct sock *sk, int before, int after)
{
	__u64 key = (__u64)sk;
	struct tcp_change *top;
	struct tcp_made *m;

	if (!matters(sk, after))
		return 0;
	change(sk, key, before, after);
	m = made();
	if (!m)
		return 0;
	top = m->depth ? &m->level[1] : &m->level[0];
	top->key = key;
	top->after = after;
	WRITE_ONCE(m->depth, m->depth ? 2 : 1);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state_again, const struct sock *sk, int before, int after)
{
	__u64 key = (__u64)sk;
	struct tcp_made *m;

	if (!matters(sk, after))
		return 0;
	m = made();
	if (!m)
		return 0;
	if (m->depth && is(&m->level[0], key, after)) {
		WRITE_ONCE(m->depth, 0);
	} else if (m->depth > 1 && is(&m->level[1], key, after)) {
		WRITE_ONCE(m->depth, 1);
	} else {
		__sync_fetch_and_add(&m->rescued, 1);
		change(sk, key, before, after);
	}
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_destroy, const struct sock *sk)
{
	__u64 key = (__u64)sk;
	struct tcp_socket *s;

	if (!tcp_held)
		return 0;
	s = bpf_map_lookup_elem(&tcp_sockets, &key);
	if (!s || !s->held)
		return 0;
	release(sk, s);
	bpf_map_delete_elem(&tcp_sockets, &key);
	return 0;
}
