/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rings and maps that count what they refuse. RING and its reserve are the only way to a ring
 * buffer, BOUNDED and its insert the only way to a map that can be full, so that nobody can forget
 * to count.
 *
 *   RING(tcp_events, struct tcp_event, 1 << 20);          the ring, the loss counters, and the
 * anchor of the struct e = RESERVE(tcp_events);                              NULL when full: then
 * call REFUSE(tcp_events, what it carried) SUBMIT(e);
 */
#ifndef FATHOM_LOSS_H
#define FATHOM_LOSS_H

#include "kernel.h"
#include "units.h"

/* What was refused: one a CPU, so that counting needs no atomics. Only ever grows. */
struct refused {
	count_t count;
	count_t packets;
	bytes_t bytes_sent;
	bytes_t bytes_received;
};

#define LOSS_COUNTER(name)                                                                         \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                           \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__type(value, struct refused);                                                     \
	} name SEC(".maps")

/* The anchor keeps the record's struct in BTF: one that is used through a local pointer only is
 * left out. */
#define RING(name, record, bytes)                                                                  \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_RINGBUF);                                                \
		__uint(max_entries, bytes);                                                        \
	} name SEC(".maps");                                                                       \
	LOSS_COUNTER(name##_refused);                                                              \
	const record *name##_record __attribute__((unused))

/* The same for an enum whose constants user space wants by name. */
#define NAMED(enumeration) const enum enumeration *enumeration##_anchor __attribute__((unused))

#define RESERVE(name) bpf_ringbuf_reserve(&name, sizeof(*name##_record), 0)

/* User space drains on a timer: a wake-up an event would cost the producer 400 ns. */
#define SUBMIT(event) bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP)

static __always_inline void refuse(void *counter, count_t packets, bytes_t sent, bytes_t received)
{
	struct refused *lost;
	__u32 zero = 0;

	lost = bpf_map_lookup_elem(counter, &zero);
	if (!lost)
		return;
	lost->count++;
	lost->packets += packets;
	lost->bytes_sent += sent;
	lost->bytes_received += received;
}

#define REFUSE(name, packets, sent, received) refuse(&name##_refused, packets, sent, received)

/* A hash that may be full. Plain, never LRU: an LRU map forgets without a count. */
#define BOUNDED(name, map_type, key_type, value_type, entries)                                     \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(max_entries, entries);                                                      \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
	} name SEC(".maps");                                                                       \
	LOSS_COUNTER(name##_refused)

#endif
