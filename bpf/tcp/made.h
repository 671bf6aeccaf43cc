/* SPDX-License-Identifier: GPL-2.0 */
/* Which changes of state the first of the two programs has made: for the second. */
#ifndef FATHOM_MADE_H
#define FATHOM_MADE_H

#include "kernel.h"
#include "units.h"

/*
 * Since 6.2 (05b24ff9b2cf, "bpf: Prevent bpf program recursion for raw tracepoint probes") the
 * kernel leaves out a program that already runs on this CPU. One in process context is interrupted
 * by softirq, and there a whole batch of packets may establish and close connections. So there are
 * two, attached one after the other: the second does what the first was left out of. They tell each
 * other by a stack of changes that were made and not yet seen by the second, of two levels, process
 * and softirq. While the second is itself left out, the first pushes again and again: the lower
 * level stays.
 */
struct tcp_change {
	__u64 key;
	__u64 after;
};

struct tcp_made {
	struct tcp_change level[2];
	__u64 depth;
	count_t rescued; /* changes that the second made */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tcp_made);
} tcp_made SEC(".maps");

static __always_inline struct tcp_made *made(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tcp_made, &zero);
}

static __always_inline bool is(const struct tcp_change *c, __u64 key, int after)
{
	return c->key == key && c->after == (__u64)after;
}

static __always_inline void push(__u64 key, int after)
{
	struct tcp_made *m = made();
	struct tcp_change *top;

	if (!m)
		return;
	top = m->depth ? &m->level[1] : &m->level[0];
	top->key = key;
	top->after = after;
	WRITE_ONCE(m->depth, m->depth ? 2 : 1);
}

/* True: the first has made this change. */
static __always_inline bool pop(__u64 key, int after)
{
	struct tcp_made *m = made();

	if (!m)
		return true;
	if (m->depth && is(&m->level[0], key, after)) {
		WRITE_ONCE(m->depth, 0);
		return true;
	}
	if (m->depth > 1 && is(&m->level[1], key, after)) {
		WRITE_ONCE(m->depth, 1);
		return true;
	}
	__sync_fetch_and_add(&m->rescued, 1);
	return false;
}

#endif
