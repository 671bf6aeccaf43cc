// SPDX-License-Identifier: GPL-2.0
/*
 * Whose the sockets are that existed before the probe did, by way of the files that processes hold:
 * in every network namespace. It fills flow_sockets and writes nothing.
 */
#include "flow.h"

char LICENSE[] SEC("license") = "GPL";

#define S_IFMT	 0170000
#define S_IFSOCK 0140000

/* The cookie, which the kernel gives to a socket when somebody first asks. Before 5.11 an iterator
 * cannot ask: then it is 0 until a packet has passed, and the next run finds it. */
static __always_inline __u64 cookie_of(struct file *file, const struct sock *sk)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_sock_from_file)) {
		struct socket *socket = bpf_sock_from_file(file);

		return socket && socket->sk ? bpf_get_socket_cookie(socket->sk) : 0;
	}
	return BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
}

SEC("iter/task_file")
int owners(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct flow_owner *known, owner = {};
	struct file *file = ctx->file;
	struct socket *socket;
	struct sock *sk;
	__u16 family;
	__u64 cookie;

	if (!task || !file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if ((family != AF_INET && family != AF_INET6) ||
	    BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
		return 0;
	cookie = cookie_of(file, sk);
	if (!cookie)
		return 0;
	known = bpf_map_lookup_elem(&flow_sockets, &cookie);
	/* Several processes may hold it: the first one met, but rather not process 1, which hands
	 * sockets to the services that it starts. */
	if (known && !(known->pid == 1 && known->owner_source == FLOW_EVENT_OWNER_SOURCE_TASK_FILE))
		return 0;
	owner.netns = socket_netns(sk);
	put_process(&owner, task, FLOW_EVENT_OWNER_SOURCE_TASK_FILE);
	if (bpf_map_update_elem(&flow_sockets, &cookie, &owner, BPF_ANY))
		REFUSE(flow_sockets, 0, 0, 0);
	return 0;
}
