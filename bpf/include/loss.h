/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rings and maps that count what they refuse. The macros declare, beside the ring or the map, a
 * per-CPU counter NAME_lost and the anchor that keeps the record's struct in BTF (a struct that is
 * used through local pointers only is left out of it), and they make the only functions by which a
 * program puts something in. So nobody can forget to count.
 *
 *   RING(tcp_ring, struct tcp_event, 1 << 20)
 *	tcp_ring_output(&event, &carried)	copies a finished record in; false: refused, counted
 *	tcp_ring_reserve(&carried)		room to build a record in, or NULL: refused, counted
 *	tcp_ring_submit(event)
 *
 *   MAP(tcp_sockets, BPF_MAP_TYPE_HASH, __u64, struct tcp_socket, 16384)
 *	tcp_sockets_insert(&key, &value, BPF_ANY, &carried)	false: refused, counted
 *
 * `carried` says what is lost if it is refused: { .count = 1, .packets = n, .bytes_sent = m }. User
 * space finds NAME_lost by its name, sums it over the CPUs, and reports it as ring_full or
 *map_full.
 */
#ifndef FATHOM_LOSS_H
#define FATHOM_LOSS_H

#include "kernel.h"
#include "units.h"

struct DOC("what a ring or a map refused") loss {
	count_t count DOC("records, or map entries");
	count_t packets DOC("packets that they carried");
	bytes_t bytes_sent DOC("bytes sent that they carried");
	bytes_t bytes_received DOC("bytes received that they carried");
};

/* Atomic although it is per CPU: a program in process context is interrupted by one in softirq. */
static __always_inline void lose(struct loss *lost, const struct loss *carried)
{
	__sync_fetch_and_add(&lost->count, carried->count);
	__sync_fetch_and_add(&lost->packets, carried->packets);
	__sync_fetch_and_add(&lost->bytes_sent, carried->bytes_sent);
	__sync_fetch_and_add(&lost->bytes_received, carried->bytes_received);
}

/* Declares map NAME_lost and NAME_lose(&carried), for what no ring or map of its own refuses. */
#define LOSS(name)                                                                                 \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                           \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__type(value, struct loss);                                                        \
	} name##_lost SEC(".maps");                                                                \
                                                                                                   \
	static __always_inline                                                                     \
	    __attribute__((unused)) void name##_lose(const struct loss *carried)                   \
	{                                                                                          \
		__u32 zero = 0;                                                                    \
		struct loss *lost = bpf_map_lookup_elem(&name##_lost, &zero);                      \
                                                                                                   \
		if (lost)                                                                          \
			lose(lost, carried);                                                       \
	}

/* User space drains on a timer: a wake-up for each record would cost the producer 400 ns. */
#define RING(name, record, bytes)                                                                  \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                                \
		__uint(max_entries, bytes);                                                        \
	} name SEC(".maps");                                                                       \
	const record *name##_record __attribute__((unused));                                       \
	LOSS(name)                                                                                 \
                                                                                                   \
	static __always_inline                                                                     \
	    __attribute__((unused)) bool name##_output(record *event, const struct loss *carried)  \
	{                                                                                          \
		if (!bpf_ringbuf_output(&name, event, sizeof(*event), BPF_RB_NO_WAKEUP))           \
			return true;                                                               \
		name##_lose(carried);                                                              \
		return false;                                                                      \
	}                                                                                          \
                                                                                                   \
	static __always_inline __attribute__((unused))                                             \
	record *name##_reserve(const struct loss *carried)                                         \
	{                                                                                          \
		record *event = bpf_ringbuf_reserve(&name, sizeof(*event), 0);                     \
                                                                                                   \
		if (!event)                                                                        \
			name##_lose(carried);                                                      \
		return event;                                                                      \
	}                                                                                          \
                                                                                                   \
	static __always_inline __attribute__((unused)) void name##_submit(record *event)           \
	{                                                                                          \
		bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);                                       \
	}

/* Plain types only: an LRU map forgets without a count. */
#define MAP(name, map_type, key_type, value_type, entries)                                         \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(max_entries, entries);                                                      \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
	} name SEC(".maps");                                                                       \
	const key_type *name##_key __attribute__((unused));                                        \
	const value_type *name##_value __attribute__((unused));                                    \
	LOSS(name)                                                                                 \
                                                                                                   \
	static __always_inline __attribute__((unused)) bool name##_insert(                         \
	    const key_type *key, const value_type *value, __u64 flags, const struct loss *carried) \
	{                                                                                          \
		if (!bpf_map_update_elem(&name, key, value, flags))                                \
			return true;                                                               \
		name##_lose(carried);                                                              \
		return false;                                                                      \
	}

#endif
