/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's own types, only the fields in use. CO-RE relocates each access to where the running
 * kernel has the field, so neither order nor gaps mean anything here. Types and constants that are
 * user-space API come from the kernel's uapi headers; the few other constants say where from.
 */
#ifndef FATHOM_KERNEL_H
#define FATHOM_KERNEL_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_endian.h>
#include <stdbool.h>

#define AF_INET	 2 /* include/linux/socket.h */
#define AF_INET6 10

#define SOCK_STREAM 1 /* include/linux/net.h, enum sock_type */
#define SOCK_DONE   1 /* include/net/sock.h, enum sock_flags: the peer's FIN came */

#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */

#define S_IFMT	 0170000
#define S_IFSOCK 0140000

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

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

/* Until 5.15 (8520e224f547, "bpf, cgroups: Fix cgroup v2 fallback on v1/v2 mixed mode") the pointer
 * shared a word with the v1 class id; the low bits tell which it is. */
struct sock_cgroup_data___shared {
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

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
};

struct socket;

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	int sk_err;
	__u16 sk_protocol;
	__u16 sk_type;
	__u8 sk_kern_sock : 1;
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
	__u64 bytes_acked;
	__u64 bytes_received;
	__u32 copied_seq;
	__u32 rcv_nxt;
	__u32 segs_in;
	__u32 segs_out;
	__u32 snd_una;
	__u32 srtt_us;
	__u32 total_retrans;
	__u32 write_seq;
};

struct task_struct {
	unsigned int flags;
	int tgid;
	struct task_struct *group_leader;
	char comm[16];
	struct css_set *cgroups;
};

struct inode {
	__u16 i_mode;
};

struct file {
	struct inode *f_inode;
	void *private_data;
};

struct socket {
	struct file *file;
	struct sock *sk;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

#endif
