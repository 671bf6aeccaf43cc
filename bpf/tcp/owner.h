/* SPDX-License-Identifier: GPL-2.0 */
/* Whose a connection is: the process that runs now, or the cgroup that the socket was made in. */
#ifndef FATHOM_OWNER_H
#define FATHOM_OWNER_H

#include "tcp.h"

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

#endif
