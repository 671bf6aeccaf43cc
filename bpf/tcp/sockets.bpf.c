// SPDX-License-Identifier: GPL-2.0
/*
 * The connections that are open now, by way of the files that processes hold: one row for each
 * process that holds one, from every network namespace (iter/tcp sees only that of its opener). It
 * finds the connections and the listeners that are older than the probe, tells what long ones have
 * carried so far, and who holds those that were accepted.
 *
 * It reads sockets without their lock. A row may be a segment behind; the next one, or the close,
 * makes that good, since each tells totals.
 */
#include "tcp.h"
#include "payload.h"

char LICENSE[] SEC("license") = "GPL";

const struct tcp_event *tcp_row_anchor __attribute__((unused));

#define S_IFMT	 0170000 /* include/uapi/linux/stat.h */
#define S_IFSOCK 0140000

static __always_inline struct sock *socket_of(struct file *file)
{
	struct socket *socket;
	struct sock *sk;
	__u16 family;

	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data); /* NULL where it was opened with O_PATH */
	sk = BPF_CORE_READ(socket, sk);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if ((family != AF_INET && family != AF_INET6) ||
	    BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return NULL;
	return sk;
}

static __always_inline void own(struct tcp_event *e, struct task_struct *task)
{
	__u64 half[2];

	e->cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	e->pid = BPF_CORE_READ(task, tgid);
	e->owner_source = TCP_EVENT_OWNER_SOURCE_TASK_FILE;
	BPF_CORE_READ_INTO(&half, task, group_leader, comm);
	put_comm(&e->comm, half[0], half[1]);
}

static __always_inline void put_place(struct tcp_event *e, struct sock *sk)
{
	e->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	e->local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	e->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		BPF_CORE_READ_INTO(&e->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&e->remote, sk, __sk_common.skc_v6_daddr);
		if (!v4_mapped(&e->remote)) {
			e->family = 6;
			return;
		}
	}
	e->family = 4;
	put_ipv4(&e->local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	put_ipv4(&e->remote, BPF_CORE_READ(sk, __sk_common.skc_daddr));
}

/* False where they moved meanwhile. */
static __always_inline bool read_positions(struct positions *p, struct tcp_sock *tp)
{
	const struct sock *sk = (void *)tp;

	p->bytes_acked = BPF_CORE_READ(tp, bytes_acked);
	p->snd_una = BPF_CORE_READ(tp, snd_una);
	p->write_seq = BPF_CORE_READ(tp, write_seq);
	p->bytes_received = BPF_CORE_READ(tp, bytes_received);
	p->rcv_nxt = BPF_CORE_READ(tp, rcv_nxt);
	p->copied_seq = BPF_CORE_READ(tp, copied_seq);
	p->fin_came = BPF_CORE_READ(sk, __sk_common.skc_flags) & (1UL << SOCK_DONE);
	return p->bytes_acked == BPF_CORE_READ(tp, bytes_acked) &&
	       p->bytes_received == BPF_CORE_READ(tp, bytes_received);
}

/* Totals since the connection began, in `e`. Read again while they move: the two halves of a sum
 * must be of one moment. No loop: older verifiers (5.10, 6.1) take one only where its way back is a
 * jump, which is the compiler's choice. */
static __always_inline void put_totals(struct tcp_event *e, struct sock *sk, int state)
{
	struct tcp_sock *tp = (void *)sk;
	struct positions p = {.fin_queued = sends_fin(state)};

	if (!read_positions(&p, tp) && !read_positions(&p, tp))
		read_positions(&p, tp);
	e->bytes_sent = payload_sent(&p, e->direction == TCP_EVENT_DIRECTION_EGRESS);
	e->bytes_received = payload_received(&p);
	e->packets_sent = BPF_CORE_READ(tp, segs_out);
	e->packets_received = BPF_CORE_READ(tp, segs_in);
	e->retransmits = BPF_CORE_READ(tp, total_retrans);
	e->srtt = BPF_CORE_READ(tp, srtt_us) >> 3;
}

static __always_inline void since(struct tcp_event *e, const struct tcp_socket *s)
{
	e->bytes_sent -= s->sent;
	e->bytes_received -= s->received;
	e->packets_sent -= s->packets_sent;
	e->packets_received -= s->packets_received;
	e->retransmits -= s->retransmits;
}

/* Only a listener at its port proves that a connection from before was accepted. */
static __always_inline enum_t direction_of(const struct tcp_event *e)
{
	struct tcp_place place = {.netns = e->netns, .port = e->local_port};

	return bpf_map_lookup_elem(&tcp_listeners, &place) ? TCP_EVENT_DIRECTION_INGRESS
							   : TCP_EVENT_DIRECTION_UNKNOWN;
}

static __always_inline void found_listener(struct sock *sk, struct task_struct *task)
{
	struct tcp_listener listener = {.sockets = 1};
	struct tcp_event e = {};
	struct tcp_place place;

	put_place(&e, sk);
	own(&e, task);
	place.netns = e.netns;
	place.port = e.local_port;
	listener.cgroup = e.cgroup;
	listener.pid = e.pid;
	listener.comm = e.comm;
	if (!bpf_map_lookup_elem(&tcp_listeners, &place))
		INSERT(tcp_listeners, &place, &listener, BPF_NOEXIST, 0, 0, 0);
}

/* A connection that is older than the probe: what it has carried so far is not ours to tell. */
static __always_inline bool remember(__u64 key, struct sock *sk, struct task_struct *task,
				     int state)
{
	struct tcp_socket s = {};

	s.opened = bpf_ktime_get_ns();
	s.event.socket = name(s.opened);
	s.event.before = 1;
	put_place(&s.event, sk);
	s.event.direction = direction_of(&s.event);
	own(&s.event, task);
	put_totals(&s.event, sk, state);
	s.sent = s.event.bytes_sent;
	s.received = s.event.bytes_received;
	s.packets_sent = s.event.packets_sent;
	s.packets_received = s.event.packets_received;
	s.retransmits = s.event.retransmits;
	if (bpf_map_update_elem(&tcp_sockets, &key, &s, BPF_NOEXIST)) {
		overflowed();
		return false;
	}
	/* It may have ended while we looked, and an entry must not outlive its socket. */
	if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE)
		bpf_map_delete_elem(&tcp_sockets, &key);
	return true;
}

SEC("iter/task_file")
int tcp_open(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct tcp_socket *s;
	struct tcp_event row;
	struct sock *sk;
	__u64 key;
	int state;

	if (!task || !file)
		return 0;
	sk = socket_of(file);
	if (!sk)
		return 0;
	key = (__u64)sk;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (state == TCP_LISTEN) {
		found_listener(sk, task);
		return 0;
	}
	if (state == TCP_SYN_SENT || state == TCP_SYN_RECV)
		return 0;
	s = bpf_map_lookup_elem(&tcp_sockets, &key);
	if (s && s->held) { /* over, and its file still open: told as it ended */
		row = s->event;
		row.kind = TCP_EVENT_KIND_OPEN;
		if (!owner_known(&row))
			own(&row, task);
		bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
		return 0;
	}
	if (state == TCP_CLOSE)
		return 0;
	if (!s) {
		/* Refused before: it stays lost until it ends, when all that it carried is told. */
		if (has_overflowed() || !remember(key, sk, task, state))
			return 0;
		s = bpf_map_lookup_elem(&tcp_sockets, &key);
		if (!s)
			return 0;
	}
	if (s->event.before && s->event.direction == TCP_EVENT_DIRECTION_UNKNOWN)
		s->event.direction = direction_of(&s->event);
	row = s->event;
	row.time = bpf_ktime_get_ns();
	row.kind = TCP_EVENT_KIND_OPEN;
	row.duration = row.before ? 0 : row.time - s->opened;
	if (!owner_known(&row))
		own(&row, task);
	put_totals(&row, sk, state);
	since(&row, s);
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}
