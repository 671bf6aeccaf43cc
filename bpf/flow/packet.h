/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A packet's ends: from its bytes to a flow_key. Straight from the buffer where the bytes are in
 * its first part, which is nearly always; by the helper where they are not.
 */
#ifndef FATHOM_PACKET_H
#define FATHOM_PACKET_H

#include "flow.h"

#define EXTENSIONS 8 /* IPv6 extension headers that are followed */

/* include/uapi/linux/in6.h, which kernel.h has no room for beside its own in6_addr */
#define IPPROTO_HOPOPTS	 0
#define IPPROTO_ROUTING	 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_ICMPV6	 58
#define IPPROTO_DSTOPTS	 60

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

/* Copies `size` bytes from `at`, both known when this is compiled. */
static __always_inline bool copy(struct __sk_buff *skb, __u32 at, void *to, __u32 size)
{
	void *from = (void *)(long)skb->data + at;

	if (from + size <= (void *)(long)skb->data_end) {
		__builtin_memcpy(to, from, size);
		return true;
	}
	return !bpf_skb_load_bytes(skb, at, to, size);
}

/* The same where `at` is found in the packet; the two usual places are taken the fast way. */
static __always_inline bool copy_transport(struct __sk_buff *skb, __u32 at, void *to, __u32 size)
{
	if (at == sizeof(struct ipv4_header))
		return copy(skb, sizeof(struct ipv4_header), to, size);
	if (at == sizeof(struct ipv6_header))
		return copy(skb, sizeof(struct ipv6_header), to, size);
	return !bpf_skb_load_bytes(skb, at, to, size);
}

static __always_inline void put_ipv4(address_t *to, __be32 address)
{
	__u32 *word = (__u32 *)to;

	word[2] = bpf_htonl(0xffff); /* the key is zeroed */
	word[3] = address;
}

/* Gives where the transport header begins, 0 where there is none to read: a later fragment. */
static __always_inline __u32 read_ipv4(struct flow_key *key, const struct ipv4_header *ip,
				       bool sent)
{
	key->family = 4;
	key->protocol = ip->protocol;
	put_ipv4(&key->local, sent ? ip->source : ip->destination);
	put_ipv4(&key->remote, sent ? ip->destination : ip->source);
	if (ip->fragment & bpf_htons(0x1fff))
		return 0;
	return (ip->version_length & 15) * 4;
}

static __always_inline bool is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
	       next == IPPROTO_AH || next == IPPROTO_DSTOPTS;
}

/* RFC 8200, section 4; RFC 4302 for AH, whose length is in words. */
static __always_inline __u32 follow_extensions(struct __sk_buff *skb, __u8 *next)
{
	__u32 at = sizeof(struct ipv6_header);
	__u8 header[4];

/* Unrolled: older verifiers (5.10, 6.1) take a loop only where its way back is a jump. */
#pragma unroll
	for (int i = 0; i < EXTENSIONS; i++) {
		if (!is_extension(*next))
			break;
		if (bpf_skb_load_bytes(skb, at, header, sizeof(header)))
			return 0;
		if (*next == IPPROTO_FRAGMENT) {
			at += 8;
			if (header[2] || header[3] & 0xf8) {
				*next = header[0];
				return 0;
			}
		} else if (*next == IPPROTO_AH) {
			at += (header[1] + 2) * 4;
		} else {
			at += (header[1] + 1) * 8;
		}
		*next = header[0];
	}
	return at;
}

static __always_inline __u32 read_ipv6(struct __sk_buff *skb, struct flow_key *key,
				       const struct ipv6_header *ip, bool sent)
{
	__u32 at = sizeof(struct ipv6_header);
	__u8 next = ip->next;

	key->family = 6;
	key->local = sent ? ip->source : ip->destination;
	key->remote = sent ? ip->destination : ip->source;
	if (is_extension(next))
		at = follow_extensions(skb, &next);
	key->protocol = next;
	return at;
}

/* The types of RFC 792, 950, 4443 and 4620 that ask, and those that answer them. */
static __always_inline enum_t icmp_message(__u8 protocol, __u8 type)
{
	const __u32 asks = 1 << 8 | 1 << 13 | 1 << 15 | 1 << 17;
	const __u32 answers = 1 << 0 | 1 << 14 | 1 << 16 | 1 << 18;

	if (protocol == IPPROTO_ICMPV6) {
		if (type == 128 || type == 139)
			return FLOW_EVENT_MESSAGE_REQUEST;
		return type == 129 || type == 140 ? FLOW_EVENT_MESSAGE_REPLY
						  : FLOW_EVENT_MESSAGE_OTHER;
	}
	if (type < 32 && asks >> type & 1)
		return FLOW_EVENT_MESSAGE_REQUEST;
	return type < 32 && answers >> type & 1 ? FLOW_EVENT_MESSAGE_REPLY
						: FLOW_EVENT_MESSAGE_OTHER;
}

/* Gives the length of the transport header: what a run of datagrams repeats with each. */
static __always_inline __u32 read_transport(struct __sk_buff *skb, struct flow_key *key, __u32 at,
					    bool sent)
{
	struct ports ports;
	__u8 type;

	switch (key->protocol) {
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
		if (!copy_transport(skb, at, &ports, sizeof(ports)))
			return 0;
		key->local_port = bpf_ntohs(sent ? ports.source : ports.destination);
		key->remote_port = bpf_ntohs(sent ? ports.destination : ports.source);
		return key->protocol == IPPROTO_SCTP ? 12 : 8;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		key->message = FLOW_EVENT_MESSAGE_OTHER;
		if (copy_transport(skb, at, &type, sizeof(type)))
			key->message = icmp_message(key->protocol, type);
	}
	return 0;
}

/*
 * Fills the key from an IP packet. False where it is not one, or is TCP. `headers` is what each
 * packet of a run has: IP and transport.
 */
static __always_inline bool read_packet(struct __sk_buff *skb, struct flow_key *key, bool sent,
					__u32 *headers)
{
	union {
		struct ipv4_header v4;
		struct ipv6_header v6;
	} ip;
	__u32 at;

	if (skb->protocol == bpf_htons(0x0800)) {
		if (!copy(skb, 0, &ip.v4, sizeof(ip.v4)))
			return false;
		at = read_ipv4(key, &ip.v4, sent);
	} else if (skb->protocol == bpf_htons(0x86dd)) {
		if (!copy(skb, 0, &ip.v6, sizeof(ip.v6)))
			return false;
		at = read_ipv6(skb, key, &ip.v6, sent);
	} else {
		return false;
	}
	if (key->protocol == IPPROTO_TCP)
		return false;
	*headers = at;
	if (at)
		*headers += read_transport(skb, key, at, sent);
	return true;
}

/* TCP is most of what passes, and none of our business: two loads from the buffer, and out. */
static __always_inline bool is_tcp(struct __sk_buff *skb)
{
	const __u8 *packet = (void *)(long)skb->data;

	if (packet + sizeof(struct ipv4_header) > (const __u8 *)(long)skb->data_end)
		return false; /* read_packet looks again */
	return (packet[0] >> 4 == 4 ? packet[9] : packet[6]) == IPPROTO_TCP;
}

#endif
