// SPDX-License-Identifier: GPL-2.0
/*
 * What sockets send and receive other than TCP: packets and bytes by socket and peer, never an
 * event a packet.
 *
 * Two hashes, one of them active. User space flips the index, waits until no program runs that read
 * the old one, and drains the idle hash at leisure: nothing is lost. Counters are added to
 * atomically although they are a CPU's own, since a program may be interrupted by another one on
 * its CPU.
 */
#include "flow.h"
#include <linux/if_ether.h>

#define IPPROTO_HOPOPTS	 0
#define IPPROTO_ICMP	 1
#define IPPROTO_TCP	 6
#define IPPROTO_UDP	 17
#define IPPROTO_ROUTING	 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_AH	 51
#define IPPROTO_ICMPV6	 58
#define IPPROTO_DSTOPTS	 60
#define IPPROTO_SCTP	 132
#define IPPROTO_UDPLITE	 136
#define SOCK_STREAM	 1
#define EXTENSIONS	 6 /* IPv6 extension headers that are followed */

char LICENSE[] SEC("license") = "GPL";

NAMED(flow_first);
NAMED(flow_owner_source);
BOUNDED(flows_0, BPF_MAP_TYPE_PERCPU_HASH, struct flow_key, struct flow_counts, 8192);
BOUNDED(flows_1, BPF_MAP_TYPE_PERCPU_HASH, struct flow_key, struct flow_counts, 8192);
BOUNDED(flow_sockets, BPF_MAP_TYPE_HASH, __u64, struct flow_owner, 8192);

/* Which hash is active: 0 or 1. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} flow_active SEC(".maps");

struct flow_inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} flow_inner SEC(".maps");

/*
 * Nobody reads this. The kernel returns from an update of a map of maps only when every program
 * that runs has ended (1ae80cf31938, "bpf: wait for running BPF programs when updating
 * map-in-map"), which is what a flip must wait for.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct flow_inner);
} flow_barrier SEC(".maps") = {.values = {&flow_inner}};

struct ipv4_header {
	__u8 version_length;
	__u8 service;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};

struct ipv6_header {
	__be32 version_class_label;
	__be16 length;
	__u8 next;
	__u8 hops;
	address_t source;
	address_t destination;
};

struct ports {
	__be16 source;
	__be16 destination;
};

/* As the first bytes of an echo: type and code, checksum, identifier. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id;
};

static __always_inline void put_ipv4(address_t *to, __be32 address)
{
	__builtin_memset(to->octets, 0, 10);
	to->octets[10] = 0xff;
	to->octets[11] = 0xff;
	__builtin_memcpy(&to->octets[12], &address, 4);
}

/* Fills the key's addresses and protocol; gives the offset of the transport header, 0 to leave the
 * packet alone. */
static __always_inline __u32 parse_ipv4(struct __sk_buff *skb, struct flow_key *key, bool sent,
					bool *later)
{
	struct ipv4_header ip;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
		return 0;
	key->family = 4;
	key->protocol = ip.protocol;
	put_ipv4(&key->local, sent ? ip.source : ip.destination);
	put_ipv4(&key->remote, sent ? ip.destination : ip.source);
	*later = ip.fragment & bpf_htons(0x1fff);
	return (ip.version_length & 15) * 4;
}

static __always_inline __u32 parse_ipv6(struct __sk_buff *skb, struct flow_key *key, bool sent,
					bool *later)
{
	__u32 at = sizeof(struct ipv6_header);
	struct ipv6_header ip;
	__u8 next;

	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
		return 0;
	key->family = 6;
	key->local = sent ? ip.source : ip.destination;
	key->remote = sent ? ip.destination : ip.source;
	next = ip.next;
#pragma unroll
	for (int i = 0; i < EXTENSIONS; i++) {
		__u8 header[4];

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT && next != IPPROTO_AH)
			break;
		if (bpf_skb_load_bytes(skb, at, header, sizeof(header)))
			break;
		if (next == IPPROTO_FRAGMENT) {
			*later = (header[2] << 8 | header[3]) & 0xfff8;
			at += 8;
		} else {
			at += next == IPPROTO_AH ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
		}
		next = header[0];
	}
	key->protocol = next;
	return at;
}

static __always_inline void parse_transport(struct __sk_buff *skb, struct flow_key *key, __u32 at,
					    bool sent)
{
	struct icmp_header icmp;
	struct ports ports;

	switch (key->protocol) {
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_SCTP:
		if (bpf_skb_load_bytes(skb, at, &ports, sizeof(ports)))
			return;
		key->local_port = bpf_ntohs(sent ? ports.source : ports.destination);
		key->remote_port = bpf_ntohs(sent ? ports.destination : ports.source);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (bpf_skb_load_bytes(skb, at, &icmp, sizeof(icmp)))
			return;
		/* Echo and its reply have an identifier; the rest has none. */
		if (key->protocol == IPPROTO_ICMP ? icmp.type == 8 || icmp.type == 0
						  : icmp.type == 128 || icmp.type == 129)
			key->local_port = bpf_ntohs(icmp.id);
		break;
	}
}

/* A run of equal datagrams in one buffer (GSO) is as many packets, each with headers of its own. */
static __always_inline void measure(struct __sk_buff *skb, __u32 headers, __u64 *packets,
				    __u64 *bytes)
{
	__u32 segments = skb->gso_segs;

	*packets = segments > 1 ? segments : 1;
	*bytes = skb->len + (*packets - 1) * headers;
}

static __always_inline void add(struct flow_counts *c, bool sent, __u64 packets, __u64 bytes)
{
	if (sent) {
		__sync_fetch_and_add(&c->packets_sent, packets);
		__sync_fetch_and_add(&c->bytes_sent, bytes);
	} else {
		__sync_fetch_and_add(&c->packets_received, packets);
		__sync_fetch_and_add(&c->bytes_received, bytes);
	}
}

static __always_inline void count(void *flows, void *refused, struct __sk_buff *skb,
				  struct flow_key *key, bool sent, __u64 packets, __u64 bytes)
{
	struct flow_counts *c = bpf_map_lookup_elem(flows, key), first = {};
	struct flow_owner *owner;

	if (c) {
		/* Another CPU may have made the flow: then this one's copy has no owner, which user
		 * space knows. */
		add(c, sent, packets, bytes);
		return;
	}
	first.first = bpf_ktime_get_ns();
	first.first_direction = sent ? FLOW_FIRST_SENT : FLOW_FIRST_RECEIVED;
	owner = bpf_map_lookup_elem(&flow_sockets, &key->socket);
	if (owner) {
		first.owner = *owner;
		first.owner_source = FLOW_OWNER_SOURCE_SOCKET;
	} else {
		first.owner.cgroup = bpf_skb_cgroup_id(skb);
	}
	add(&first, sent, packets, bytes);
	if (!bpf_map_update_elem(flows, key, &first, BPF_NOEXIST))
		return;
	c = bpf_map_lookup_elem(flows, key); /* somebody was faster, or the map is full */
	if (c)
		add(c, sent, packets, bytes);
	else
		refuse(refused, packets, sent ? bytes : 0, sent ? 0 : bytes);
}

static __always_inline int packet(struct __sk_buff *skb, bool sent)
{
	__u32 headers, zero = 0, *active;
	struct flow_key key = {};
	__u64 packets, bytes;
	bool later = false;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		headers = parse_ipv4(skb, &key, sent, &later);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		headers = parse_ipv6(skb, &key, sent, &later);
	else
		return 1;
	if (!headers || key.protocol == IPPROTO_TCP)
		return 1;
	key.socket = bpf_get_socket_cookie(skb);
	if (!later) /* a later fragment has no ports */
		parse_transport(skb, &key, headers, sent);
	if (key.protocol == IPPROTO_UDP)
		headers += 8;
	measure(skb, headers, &packets, &bytes);
	active = bpf_map_lookup_elem(&flow_active, &zero);
	if (active && *active)
		count(&flows_1, &flows_1_refused, skb, &key, sent, packets, bytes);
	else
		count(&flows_0, &flows_0_refused, skb, &key, sent, packets, bytes);
	return 1;
}

/*
 * TCP is most of what passes here, and none of our business: straight from the packet, and out.
 * Headers that are not in the buffer's first part are left to the loads of parse_ipv4 and
 * parse_ipv6, which look at the protocol again.
 */
static __always_inline bool is_tcp(struct __sk_buff *skb)
{
	const __u8 *packet = (void *)(long)skb->data;
	const __u8 *end = (void *)(long)skb->data_end;

	if (packet + sizeof(struct ipv4_header) > end)
		return false;
	return (packet[0] >> 4 == 4 ? packet[9] : packet[6]) == IPPROTO_TCP;
}

SEC("cgroup_skb/egress")
int flow_egress(struct __sk_buff *skb)
{
	return is_tcp(skb) ? 1 : packet(skb, true);
}

SEC("cgroup_skb/ingress")
int flow_ingress(struct __sk_buff *skb)
{
	return is_tcp(skb) ? 1 : packet(skb, false);
}

/* A socket is made: process context, its owner's. */
SEC("cgroup/sock_create")
int flow_create(struct bpf_sock *sk)
{
	struct flow_owner owner = {};
	struct task_struct *task, *leader;
	__u64 socket;

	if (sk->type == SOCK_STREAM)
		return 1;
	task = (void *)bpf_get_current_task();
	leader = BPF_CORE_READ(task, group_leader);
	owner.cgroup = bpf_get_current_cgroup_id();
	owner.pid = bpf_get_current_pid_tgid() >> 32;
	owner.netns = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	bpf_core_read(&owner.comm, sizeof(owner.comm), &leader->comm);
	socket = bpf_get_socket_cookie(sk);
	if (bpf_map_update_elem(&flow_sockets, &socket, &owner, BPF_ANY))
		refuse(&flow_sockets_refused, 0, 0, 0);
	return 1;
}

SEC("cgroup/sock_release")
int flow_release(struct bpf_sock *sk)
{
	__u64 socket;

	if (sk->type == SOCK_STREAM)
		return 1;
	socket = bpf_get_socket_cookie(sk);
	bpf_map_delete_elem(&flow_sockets, &socket);
	return 1;
}
