// SPDX-License-Identifier: GPL-2.0
/* Who holds the sockets that existed before the probe did: one row a socket that has a cookie. */
#include "flow.h"

char LICENSE[] SEC("license") = "GPL";

#define S_IFMT	    0170000
#define S_IFSOCK    0140000
#define IPPROTO_TCP 6

const struct flow_holder *flow_holder_anchor __attribute__((unused));

SEC("iter/task_file")
int owners(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct flow_holder row = {};
	struct file *file = ctx->file;
	struct socket *socket;
	struct sock *sk;
	__u16 family;

	if (!task || !file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if ((family != AF_INET && family != AF_INET6) ||
	    BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
		return 0;
	row.socket = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	if (!row.socket)
		return 0; /* nothing has passed through it yet */
	row.owner.cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	row.owner.pid = BPF_CORE_READ(task, tgid);
	row.owner.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	BPF_CORE_READ_INTO(&row.owner.comm, task, group_leader, comm);
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}
