/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Units as types. The names survive in BTF, from which user space takes the unit of every field, so
 * a number in a record is one of these, an enum, or padding. Base units only.
 */
#ifndef FATHOM_UNITS_H
#define FATHOM_UNITS_H

#include <linux/types.h>

/* Says in BTF what a field or a record is, for the reference pages: ns_t time DOC("when"); */
#define DOC(text) __attribute__((btf_decl_tag("doc:" text)))

/* An enum that takes one byte, so that BTF ties the field to the names. Its constants begin with
 * the enum's own name: enum tcp_kind { TCP_KIND_CLOSED, ... } BYTE_ENUM; */
#define BYTE_ENUM __attribute__((packed))

typedef __u64 ns_t;	    /* nanoseconds: a stretch, or a moment of CLOCK_MONOTONIC */
typedef __u32 us_t;	    /* microseconds, where the kernel keeps nothing finer */
typedef __u64 bytes_t;	    /* bytes */
typedef __u64 count_t;	    /* how many */
typedef __u32 count32_t;    /* how many, where the kernel counts in 32 bits */
typedef __u64 cgroup_id_t;  /* inode number of a cgroup's directory in cgroup2 */
typedef __u32 netns_id_t;   /* inode number of a network namespace */
typedef __u32 process_id_t; /* a process as user space numbers it (tgid), initial pid namespace */
typedef __u64 socket_id_t;  /* names a socket for as long as the machine runs; 0: not known */
typedef __u16 port_t;	    /* port of TCP or UDP, host byte order */
typedef __u8 protocol_t;    /* IP protocol number */
typedef __u8 family_t;	    /* 4 or 6 */
typedef __u8 address_t[16]; /* IPv6, or IPv4 as ::ffff:a.b.c.d; network byte order */
typedef char comm_t[16];    /* a process's name as the kernel keeps it, ended by NUL */

#endif
