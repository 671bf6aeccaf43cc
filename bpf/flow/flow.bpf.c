// SPDX-License-Identifier: GPL-2.0
/*
 * What sockets send and receive other than TCP: packets and bytes by socket and peer, never an
 * event a packet.
 *
 * Two pairs of maps, one of them active. User space flips the index, waits until no program runs
 * that may have read the old one, and drains the idle pair at leisure: every packet is in exactly
 * one drain, or in exactly one counter of what a full map refused. Counters are added to atomically
 * although each CPU has its own: a program may be interrupted by another one, or preempted.
 */
#include "packet.h"

char LICENSE[] SEC("license") = "GPL";

const struct flow_event *flow_event_record __attribute__((unused));
NAMED(flow_event_direction);
NAMED(flow_event_message);
NAMED(flow_event_protocol);
NAMED(flow_event_owner_source);

BOUNDED(flows_0, BPF_MAP_TYPE_PERCPU_HASH, struct flow_key, struct flow_counts, 8192);
BOUNDED(flows_1, BPF_MAP_TYPE_PERCPU_HASH, struct flow_key, struct flow_counts, 8192);

/* The owner of each socket in the flows beside it, which may be gone when they are drained. */
BOUNDED(flow_owners_0, BPF_MAP_TYPE_HASH, __u64, struct flow_owner, 8192);
BOUNDED(flow_owners_1, BPF_MAP_TYPE_HASH, __u64, struct flow_owner, 8192);

/* Which pair is active: 0 or 1. Only user space writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} flow_active SEC(".maps");

/* How many flows each of the two holds, so that user space knows when to drain early. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, count_t);
} flow_used SEC(".maps");

struct flow_inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} flow_inner SEC(".maps");

/*
 * Nobody reads this. The kernel returns from an update of a map of maps only when every program
 * that was running has ended (1ae80cf31938, "bpf: wait for running BPF programs when updating
 * map-in-map"): what a flip has to wait for.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct flow_inner);
} flow_barrier SEC(".maps") = {.values = {&flow_inner}};

struct passed {
	__u64 packets;
	__u64 bytes;
	bool sent;
};

/* A run of equal datagrams in one buffer (GSO) is as many packets, each with headers of its own. */
static __always_inline void measure(struct __sk_buff *skb, __u32 headers, struct passed *passed)
{
	__u32 segments = skb->gso_segs, size = skb->gso_size;

	/* Untrusted sources (virtio, TUN) say the size only. */
	if (!segments && size && skb->len > headers)
		segments = (skb->len - headers + size - 1) / size;
	passed->packets = segments > 1 ? segments : 1;
	passed->bytes = skb->len + (passed->packets - 1) * headers;
}

static __always_inline void add(struct flow_counts *c, const struct passed *passed)
{
	if (passed->sent) {
		__sync_fetch_and_add(&c->packets_sent, passed->packets);
		__sync_fetch_and_add(&c->bytes_sent, passed->bytes);
	} else {
		__sync_fetch_and_add(&c->packets_received, passed->packets);
		__sync_fetch_and_add(&c->bytes_received, passed->bytes);
	}
	c->last_tick = bpf_jiffies64();
}

/*
 * The packet's socket as a number. The verifier lets nobody compute with skb->sk, so its value is
 * read back from the stack.
 */
static __always_inline struct sock *socket_of(struct __sk_buff *skb)
{
	const void *sk = skb->sk;
	struct sock *address = NULL;

	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	return address;
}

/* Whether the task that runs is the program that sends: datagrams leave in its system call. */
static __always_inline bool is_sender(const struct sock *sk, struct task_struct *task)
{
	__u16 type = BPF_CORE_READ(sk, sk_type);

	return (type == SOCK_DGRAM || type == SOCK_RAW) &&
	       !(BPF_CORE_READ(task, flags) & PF_KTHREAD);
}

/*
 * A flow begins in this interval: keep who owns its socket. The one who made the socket may have
 * handed it to another (a supervisor to its service), so who sends comes before who made it.
 */
static __always_inline void keep_owner(struct __sk_buff *skb, void *owners, void *refused,
				       __u64 socket, bool sent)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct flow_owner *known = bpf_map_lookup_elem(&flow_sockets, &socket);
	struct sock *sk = socket_of(skb);
	struct flow_owner owner = {};
	__u64 flags = BPF_NOEXIST;

	if (known) {
		owner = *known;
	} else {
		owner.netns = socket_netns(sk);
		owner.cgroup = bpf_skb_cgroup_id(skb);
		owner.kernel = !BPF_CORE_READ((struct sock___flow *)sk, sk_socket, file);
	}
	if (sent && !owner.kernel && is_sender(sk, task) &&
	    BPF_CORE_READ(task, tgid) != owner.pid) {
		put_process(&owner, task, FLOW_EVENT_OWNER_SOURCE_PACKET);
		/* Full: then the next interval asks again, and nothing is lost by it. */
		bpf_map_update_elem(&flow_sockets, &socket, &owner, BPF_ANY);
		flags = BPF_ANY;
	}
	if (bpf_map_update_elem(owners, &socket, &owner, flags) &&
	    !bpf_map_lookup_elem(owners, &socket))
		refuse(refused, 0, 0, 0);
}

/* False where the map has no room. */
static __always_inline bool count(struct __sk_buff *skb, void *flows, __u32 index,
				  const struct flow_key *key, const struct passed *passed,
				  bool *began)
{
	struct flow_counts *c = bpf_map_lookup_elem(flows, key), first = {};
	count_t *used;

	if (c) {
		add(c, passed);
		return true;
	}
	first.first = bpf_ktime_get_ns();
	first.direction = passed->sent ? FLOW_EVENT_DIRECTION_EGRESS : FLOW_EVENT_DIRECTION_INGRESS;
	add(&first, passed);
	first.first_tick = first.last_tick;
	if (!bpf_map_update_elem(flows, key, &first, BPF_NOEXIST)) {
		*began = true;
		used = bpf_map_lookup_elem(&flow_used, &index);
		if (used)
			__sync_fetch_and_add(used, 1);
		return true;
	}
	c = bpf_map_lookup_elem(flows, key); /* somebody was faster, or the map is full */
	if (c)
		add(c, passed);
	return c != NULL;
}

/* Once for each pair, so that the kernel can inline the look-ups. */
#define COUNT(n)                                                                                   \
	if (!count(skb, &flows_##n, n, &key, &passed, &began))                                     \
		REFUSE(flows_##n, passed.packets, sent ? passed.bytes : 0,                         \
		       sent ? 0 : passed.bytes);                                                   \
	else if (began)                                                                            \
	keep_owner(skb, &flow_owners_##n, &flow_owners_##n##_refused, key.socket, sent)

static __always_inline int packet(struct __sk_buff *skb, bool sent)
{
	struct passed passed = {.sent = sent};
	__u32 headers, zero = 0, *active;
	struct flow_key key = {};
	bool began = false;

	if (is_tcp(skb) || !read_packet(skb, &key, sent, &headers))
		return 1;
	key.socket = bpf_get_socket_cookie(skb);
	measure(skb, headers, &passed);
	active = bpf_map_lookup_elem(&flow_active, &zero);
	if (active && *active) {
		COUNT(1);
	} else {
		COUNT(0);
	}
	return 1;
}

SEC("cgroup_skb/egress")
int flow_egress(struct __sk_buff *skb)
{
	return packet(skb, true);
}

SEC("cgroup_skb/ingress")
int flow_ingress(struct __sk_buff *skb)
{
	return packet(skb, false);
}

/* A program makes a socket: process context, its own. */
SEC("cgroup/sock_create")
int flow_create(struct bpf_sock *sk)
{
	struct flow_owner owner = {.created = bpf_ktime_get_ns()};
	const void *pointer = sk;
	struct sock *address;
	__u64 socket;

	if (sk->protocol == IPPROTO_TCP)
		return 1;
	bpf_probe_read_kernel(&address, sizeof(address), &pointer);
	owner.netns = socket_netns(address);
	put_process(&owner, (void *)bpf_get_current_task(), FLOW_EVENT_OWNER_SOURCE_SOCKET);
	socket = bpf_get_socket_cookie(sk);
	if (bpf_map_update_elem(&flow_sockets, &socket, &owner, BPF_ANY))
		REFUSE(flow_sockets, 0, 0, 0);
	return 1;
}

SEC("cgroup/sock_release")
int flow_release(struct bpf_sock *sk)
{
	__u64 socket;

	if (sk->protocol == IPPROTO_TCP)
		return 1;
	socket = bpf_get_socket_cookie(sk);
	bpf_map_delete_elem(&flow_sockets, &socket);
	return 1;
}
