/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rings and maps that count what they refuse, so that nobody can forget to.
 *
 * RING and BOUNDED declare, beside the ring or the map, a per-CPU counter NAME_refused. What goes
 *in goes in by OUTPUT, RESERVE or INSERT, which count by themselves. Their last three arguments say
 *what is lost if there is no room: packets, bytes sent, bytes received.
 *
 *   RING(tcp_events, struct tcp_event, 1 << 20);
 *	OUTPUT(tcp_events, event, 0, sent, received)	copy a record in; false: refused
 *	e = RESERVE(tcp_events, 0, sent, received)	room to build one in; NULL: refused
 *	SUBMIT(tcp_events, e)
 *   BOUNDED(tcp_sockets, BPF_MAP_TYPE_HASH, __u64, struct tcp_socket, 16384);
 *	INSERT(tcp_sockets, &key, &value, BPF_ANY, 0, 0, 0)	false: refused
 *
 * REFUSE(name, packets, sent, received) counts one more, where a program finds out by itself.
 */
#ifndef FATHOM_LOSS_H
#define FATHOM_LOSS_H

#include "kernel.h"
#include "units.h"

/* Only ever grows; user space sums it over the CPUs. */
struct DOC("What a ring or a map refused") refused {
	count_t count DOC("records, or map entries");
	count_t packets DOC("packets that they carried");
	bytes_t bytes_sent DOC("bytes sent that they carried");
	bytes_t bytes_received DOC("bytes received that they carried");
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

/* A hash that may be full. Plain, never LRU: an LRU map forgets without a count. */
#define BOUNDED(name, map_type, key_type, value_type, entries)                                     \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(max_entries, entries);                                                      \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
	} name SEC(".maps");                                                                       \
	LOSS_COUNTER(name##_refused)

/* Atomic although a CPU has its own: a program in process context may be interrupted by another one
 * in softirq. */
static __always_inline void add_refused(struct refused *to, count_t packets, bytes_t sent,
					bytes_t received)
{
	__sync_fetch_and_add(&to->count, 1);
	if (packets)
		__sync_fetch_and_add(&to->packets, packets);
	if (sent)
		__sync_fetch_and_add(&to->bytes_sent, sent);
	if (received)
		__sync_fetch_and_add(&to->bytes_received, received);
}

static __always_inline void refuse(void *counter, count_t packets, bytes_t sent, bytes_t received)
{
	__u32 zero = 0;
	struct refused *to = bpf_map_lookup_elem(counter, &zero);

	if (to)
		add_refused(to, packets, sent, received);
}

#define REFUSE(name, packets, sent, received) refuse(&name##_refused, packets, sent, received)

/* More than all CPUs together put into a ring between a look at it and the next. */
#define WAKEUP_BYTES 16384

/*
 * User space drains on a timer: a wake-up an event would cost the producer 400 ns. It is woken
 * early by a ring that gets half full, while it does: by a few records, not by all that follow.
 */
static __always_inline __u64 wakeup(void *ring)
{
	__u64 used = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);
	__u64 half = ((struct bpf_map *)ring)->max_entries / 2;

	return used >= half && used < half + WAKEUP_BYTES ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline bool output(void *ring, void *counter, void *record, __u64 size,
				   count_t packets, bytes_t sent, bytes_t received)
{
	if (!bpf_ringbuf_output(ring, record, size, wakeup(ring)))
		return true;
	refuse(counter, packets, sent, received);
	return false;
}

#define OUTPUT(name, record, packets, sent, received)                                              \
	output(&name, &name##_refused, record, sizeof(*name##_record), packets, sent, received)

static __always_inline void *reserve(void *ring, void *counter, __u64 size, count_t packets,
				     bytes_t sent, bytes_t received)
{
	void *record = bpf_ringbuf_reserve(ring, size, 0);

	if (!record)
		refuse(counter, packets, sent, received);
	return record;
}

#define RESERVE(name, packets, sent, received)                                                     \
	reserve(&name, &name##_refused, sizeof(*name##_record), packets, sent, received)

#define SUBMIT(name, record) bpf_ringbuf_submit(record, wakeup(&name))

static __always_inline bool insert(void *map, void *counter, const void *key, const void *value,
				   __u64 flags, count_t packets, bytes_t sent, bytes_t received)
{
	if (!bpf_map_update_elem(map, key, value, flags))
		return true;
	refuse(counter, packets, sent, received);
	return false;
}

#define INSERT(name, key, value, flags, packets, sent, received)                                   \
	insert(&name, &name##_refused, key, value, flags, packets, sent, received)

#endif
