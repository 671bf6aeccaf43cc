// SPDX-License-Identifier: Apache-2.0
// The peer of Ring.drain: libbpf's own ring buffer manager, whose callback copies each record to
// one buffer.
#include <bpf/libbpf.h>
#include <stddef.h>
#include <string.h>

static char *to;
static size_t at, room;

static int copy(void *context, void *data, size_t size)
{
	(void)context;
	if (at + size > room)
		at = 0;
	memcpy(to + at, data, size);
	at += size;
	return 0;
}

struct ring_buffer *drain_open(int fd)
{
	return ring_buffer__new(fd, copy, NULL, NULL);
}

int drain_all(struct ring_buffer *ring, char *buffer, size_t size)
{
	to = buffer;
	room = size;
	at = 0;
	return ring_buffer__consume(ring);
}

void drain_close(struct ring_buffer *ring)
{
	ring_buffer__free(ring);
}
