// SPDX-License-Identifier: GPL-2.0
/*
 * The sockets that are open now, by way of the files that processes hold: one row a connection or
 * listener, from every network namespace (iter/tcp sees only that of its opener). It finds what
 * existed before the probe did, tells the bytes of connections that live long, and names the owners
 * of those that were accepted.
 */
#include "tcp.h"

char LICENSE[] SEC("license") = "GPL";

const struct tcp_event *tcp_row_anchor __attribute__((unused));

#define S_IFMT	 0170000
#define S_IFSOCK 0140000

static __always_inline struct sock *socket_of(struct file *file)
{
	struct socket *socket;
	struct sock *sk;
	__u16 family;

	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if ((family != AF_INET && family != AF_INET6) ||
	    BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return NULL;
	return sk;
}

static __always_inline void put_owner(struct owner *owner, struct task_struct *task)
{
	owner->cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	owner->pid = BPF_CORE_READ(task, tgid);
	owner->source = TCP_EVENT_OWNER_SOURCE_TASK_FILE;
	BPF_CORE_READ_INTO(&owner->comm, task, group_leader, comm);
}

static __always_inline void put_addresses(struct tcp_event *row, struct sock *sk)
{
	row->family = 6;
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		BPF_CORE_READ_INTO(&row->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&row->remote, sk, __sk_common.skc_v6_daddr);
		if (!v4_mapped(&row->remote))
			return;
	}
	row->family = 4;
	put_ipv4(&row->local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	put_ipv4(&row->remote, BPF_CORE_READ(sk, __sk_common.skc_daddr));
}

static __always_inline void put_counters(struct tcp_event *row, struct sock *sk)
{
	struct tcp_sock *tp = (void *)sk;
	__u32 unsent = BPF_CORE_READ(tp, write_seq) - BPF_CORE_READ(tp, snd_nxt);

	row->bytes_sent = BPF_CORE_READ(tp, bytes_sent) - BPF_CORE_READ(tp, bytes_retrans) + unsent;
	row->bytes_received = BPF_CORE_READ(tp, bytes_received);
	if (row->bytes_received && BPF_CORE_READ(sk, __sk_common.skc_flags) & (1UL << SOCK_DONE))
		row->bytes_received--;
	row->packets_sent = BPF_CORE_READ(tp, segs_out);
	row->packets_received = BPF_CORE_READ(tp, segs_in);
	row->retransmits = BPF_CORE_READ(tp, total_retrans);
	row->srtt = BPF_CORE_READ(tp, srtt_us) >> 3;
}

/* The socket's state, made if it existed before the probe. NULL if the map is full: counted. */
static __always_inline struct tcp_socket *state_of(__u64 key, struct task_struct *task, ns_t now)
{
	struct tcp_socket *s = bpf_map_lookup_elem(&tcp_sockets, &key);

	if (!s) {
		struct tcp_socket first = {.opened = now, .before = 1};

		if (bpf_map_update_elem(&tcp_sockets, &key, &first, BPF_NOEXIST))
			REFUSE(tcp_sockets, 0, 0, 0);
		s = bpf_map_lookup_elem(&tcp_sockets, &key);
	}
	if (s && owner_unknown(s))
		put_owner(&s->owner, task);
	return s;
}

SEC("iter/task_file")
int sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct tcp_event row = {};
	struct tcp_socket *s;
	struct sock *sk;
	int state;

	if (!task || !file)
		return 0;
	sk = socket_of(file);
	if (!sk)
		return 0;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (state == TCP_CLOSE || state == TCP_SYN_SENT)
		return 0;
	row.time = bpf_ktime_get_ns();
	row.socket = (socket_t)sk;
	row.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	row.local_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	put_addresses(&row, sk);
	if (state == TCP_LISTEN) {
		struct owner owner = {};

		put_owner(&owner, task);
		row.kind = TCP_EVENT_KIND_LISTENING;
		row.cgroup = owner.cgroup;
		row.pid = owner.pid;
		row.comm = owner.comm;
		row.owner_source = owner.source;
		bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
		return 0;
	}
	s = state_of(row.socket, task, row.time);
	if (!s)
		return 0;
	put_counters(&row, sk);
	row.kind = TCP_EVENT_KIND_OPEN;
	row.opened = s->opened;
	row.latency = s->latency;
	row.told_sent = s->told_sent;
	row.told_received = s->told_received;
	row.remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	row.cgroup = s->owner.cgroup;
	row.pid = s->owner.pid;
	row.comm = s->owner.comm;
	row.owner_source = s->owner.source;
	row.direction = s->direction;
	row.told = s->told;
	row.before = s->before;
	s->told_sent = row.bytes_sent;
	s->told_received = row.bytes_received;
	s->told = 1;
	/* It may have closed while we looked: an entry must not outlive its socket. */
	if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE && s->before)
		bpf_map_delete_elem(&tcp_sockets, &row.socket);
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}
