// SPDX-License-Identifier: Apache-2.0
// Load for the benchmarks: one thread is both ends, over loopback, so that its CPU time is all that
// the work costs. Reads one command a line, does it, prints "cpu_ns wall_ns units":
//   connect N      N connections: connect, accept, 64 bytes each way, close
//   paced RATE S   the same, RATE a second for S seconds
//   udp N          N datagrams of 64 bytes, each sent and received
//   bulk MIB       MIB mebibytes through one TCP connection
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int bound(int type, struct sockaddr_in *address)
{
	int one = 1, fd = socket(AF_INET, type, 0);
	socklen_t size = sizeof(*address);

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	*address =
	    (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (bind(fd, (struct sockaddr *)address, sizeof(*address)) ||
	    getsockname(fd, (struct sockaddr *)address, &size))
		die("bind");
	return fd;
}

static int dial(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		die("connect");
	return fd;
}

static void one_connection(int listener, const struct sockaddr_in *address)
{
	char block[64] = {0};
	int client = dial(address), server = accept(listener, NULL, NULL);

	if (server < 0)
		die("accept");
	if (write(client, block, sizeof(block)) != sizeof(block) ||
	    read(server, block, sizeof(block)) != sizeof(block) ||
	    write(server, block, sizeof(block)) != sizeof(block) ||
	    read(client, block, sizeof(block)) != sizeof(block))
		die("transfer");
	close(client);
	close(server);
}

// Every 4,000 connections a new listener, so that ports in TIME_WAIT never run out.
static void connections(uint64_t count, uint64_t rate)
{
	struct sockaddr_in address;
	uint64_t start = clock_ns(CLOCK_MONOTONIC);
	int listener = -1;

	for (uint64_t i = 0; i < count; i++) {
		if (i % 4000 == 0) {
			if (listener >= 0)
				close(listener);
			listener = bound(SOCK_STREAM, &address);
			if (listen(listener, 128))
				die("listen");
		}
		// In groups of 10, as a server under load sees them; a sleep each would measure the
		// timer.
		if (rate && i % 10 == 0) {
			uint64_t due = start + i * 1000000000ULL / rate;
			struct timespec until = {due / 1000000000ULL, due % 1000000000ULL};

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		}
		one_connection(listener, &address);
	}
	close(listener);
}

static void datagrams(uint64_t count)
{
	struct sockaddr_in address;
	char block[64] = {0};
	int receiver = bound(SOCK_DGRAM, &address), sender = socket(AF_INET, SOCK_DGRAM, 0);

	if (connect(sender, (struct sockaddr *)&address, sizeof(address)))
		die("connect");
	for (uint64_t i = 0; i < count; i++)
		if (send(sender, block, sizeof(block), 0) != sizeof(block) ||
		    recv(receiver, block, sizeof(block), 0) != sizeof(block))
			die("datagram");
	close(sender);
	close(receiver);
}

static void bulk(uint64_t mib)
{
	static char block[128 << 10];
	struct sockaddr_in address;
	int listener = bound(SOCK_STREAM, &address), client, server;

	if (listen(listener, 1))
		die("listen");
	client = dial(&address);
	server = accept(listener, NULL, NULL);
	for (uint64_t sent = 0; sent < mib << 20; sent += sizeof(block)) {
		if (write(client, block, sizeof(block)) != sizeof(block))
			die("write");
		for (size_t got = 0; got < sizeof(block);) {
			ssize_t n = read(server, block, sizeof(block));

			if (n <= 0)
				die("read");
			got += n;
		}
	}
	close(client);
	close(server);
	close(listener);
}

int main(void)
{
	char line[128], what[16];

	while (fgets(line, sizeof(line), stdin)) {
		uint64_t a = 0, b = 0, cpu, wall;

		if (sscanf(line, "%15s %lu %lu", what, &a, &b) < 2)
			return 2;
		cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
		wall = clock_ns(CLOCK_MONOTONIC);
		if (!strcmp(what, "connect"))
			connections(a, 0);
		else if (!strcmp(what, "paced"))
			connections(a * b, a);
		else if (!strcmp(what, "udp"))
			datagrams(a);
		else if (!strcmp(what, "bulk"))
			bulk(a);
		else
			return 2;
		cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
		wall = clock_ns(CLOCK_MONOTONIC) - wall;
		printf("%lu %lu %lu\n", cpu, wall, !strcmp(what, "paced") ? a * b : a);
		fflush(stdout);
	}
	return 0;
}
