/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Units as types. The names survive in BTF, from which user space takes the unit of every field, so
 * whatever is in a record is one of these or padding. Base units only.
 */
#ifndef FATHOM_UNITS_H
#define FATHOM_UNITS_H

#include <linux/types.h>

/* Puts into BTF what a record or a field is, for the reference pages: ns_t time DOC("when"); */
#define DOC(text) __attribute__((btf_decl_tag("doc:" text)))

typedef __u64 ns_t;	 /* nanoseconds: a stretch, or a moment of CLOCK_MONOTONIC */
typedef __u64 bytes_t;	 /* bytes */
typedef __u64 count_t;	 /* how many */
typedef __u32 packets_t; /* packets of one connection */
typedef __u32 us_t;	 /* microseconds, where the kernel keeps nothing finer */
typedef __u64 cgroup_t;	 /* cgroup id: the inode number of its directory in cgroup2 */
typedef __u64 socket_t;	 /* names a socket, or a connection; 0: not known */
typedef __u32 netns_t;	 /* inode number of a network namespace */
typedef __u32 process_t; /* process id as user space says it (the kernel's tgid) */
typedef __u16 port_t;	 /* TCP or UDP port, host byte order */
typedef __u8 family_t;	 /* 4 or 6 */
typedef __u8 flag_t;	 /* 0 or 1 */
typedef __u8 enum_t;	 /* one of an enum that the same object holds, named <struct>_<field> */
typedef struct {
	__u8 octets[16]; /* IPv6, or IPv4 as ::ffff:a.b.c.d; network byte order */
} address_t;
typedef struct {
	char text[16]; /* name of the process: its thread group leader's comm, NUL-terminated */
} comm_t;

#endif
