/* SPDX-License-Identifier: GPL-2.0 */
/* Who listens where: the owner of accepted connections for as long as nothing better is known. */
#ifndef FATHOM_LISTENER_H
#define FATHOM_LISTENER_H

#include "owner.h"

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

#endif
