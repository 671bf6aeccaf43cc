// SPDX-License-Identifier: GPL-2.0
// Fills the tcp probe's ring with closed connections of many peers, as fast as asked:
// BPF_PROG_TEST_RUN runs it.
#include "tcp.h"

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} tcp_events SEC(".maps");

// Set by each run's context: how many, and how many different peers.
struct wanted {
	__u64 events;
	__u64 peers;
};

// refused[0]: how many found no room.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} refused SEC(".maps");

static long one(__u32 index, struct wanted *wanted)
{
	struct tcp_event *e = bpf_ringbuf_reserve(&tcp_events, sizeof(*e), 0);
	__u32 zero = 0, peer = wanted->peers ? index % wanted->peers : 0;
	__u64 *lost;

	if (!e) {
		lost = bpf_map_lookup_elem(&refused, &zero);
		if (lost)
			(*lost)++;
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time = bpf_ktime_get_ns();
	e->socket = e->time << 8;
	e->latency = 100000;
	e->bytes_sent = 1000;
	e->bytes_received = 5000;
	e->cgroup = 1;
	e->pid = 1;
	e->family = 4;
	e->kind = TCP_EVENT_KIND_CLOSED;
	e->direction = TCP_EVENT_DIRECTION_EGRESS;
	e->owner_source = TCP_EVENT_OWNER_SOURCE_CONNECT;
	e->local_port = 40000 + (index & 0xfff);
	e->remote_port = 443;
	e->local.octets[10] = e->local.octets[11] = e->remote.octets[10] = e->remote.octets[11] =
	    0xff;
	e->local.octets[12] = e->remote.octets[12] = 10;
	e->local.octets[15] = 1;
	e->remote.octets[14] = peer >> 8;
	e->remote.octets[15] = peer;
	SUBMIT(tcp_events, e);
	return 0;
}

SEC("syscall")
int generate(struct wanted *wanted)
{
	struct wanted copy = {.events = wanted->events, .peers = wanted->peers};

	bpf_loop(copy.events, one, &copy, 0);
	return 0;
}
