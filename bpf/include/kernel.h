/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's types, only the fields in use. CO-RE relocates each access to where the running
 * kernel has the field, so the order here means nothing. Constants are those of the kernel's own
 * headers, which user space cannot include.
 */
#ifndef FATHOM_KERNEL_H
#define FATHOM_KERNEL_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_endian.h>
#include <stdbool.h>

#define WRITE_ONCE(where, what) (*(volatile typeof(where) *)&(where) = (what))

#define AF_INET	 2
#define AF_INET6 10

/* include/net/tcp_states.h */
enum tcp_state {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_LISTEN,
	TCP_CLOSING,
	TCP_NEW_SYN_RECV,
};

/* Bits of sk_flags, include/net/sock.h. */
#define SOCK_DEAD 0 /* no file is open on it */
#define SOCK_DONE 1 /* the peer's FIN came */

#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__be32 u6_addr32[4];
	} in6_u;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

/* Before 5.15 (8520e224f547, "bpf, cgroups: Fix cgroup v2 fallback on v1/v2 mixed mode") the
 * pointer shared a word. */
struct sock_cgroup_data___old {
	__u64 val;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct nsproxy {
	struct net *net_ns;
};

typedef struct {
	__s64 counter;
} atomic64_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned long skc_flags;
	atomic64_t skc_cookie;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	__u16 sk_type;
	int sk_err;
	struct sock_cgroup_data sk_cgrp_data;
};

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 srtt_us;
	__u32 segs_in;
	__u32 segs_out;
	__u32 total_retrans;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 write_seq;
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u64 bytes_acked;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u64 bytes_received;
};

struct task_struct {
	unsigned int flags;
	struct task_struct *group_leader;
	char comm[16];
	int tgid;
	struct css_set *cgroups;
	struct nsproxy *nsproxy;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct inode {
	__u16 i_mode;
};

struct file {
	void *private_data;
	struct inode *f_inode;
};

struct socket {
	struct sock *sk;
};

struct bpf_map {
	__u32 max_entries;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

#endif
