// SPDX-License-Identifier: GPL-2.0
/*
 * Causes exactly one TCP event, and says what it did, so that a test can ask the probe for just
 * that.
 *
 *   trigger refused|abandoned|local_error|timeout|unreachable ADDRESS PORT	one failure
 *   trigger connect|abort ADDRESS PORT	one connection, closed by FIN or by RST; nothing is sent
 *   trigger bound ADDRESS PORT	as refused, from a port that was bound before
 *
 * An IPv6 socket is used for an address with a colon, so that ::ffff:a.b.c.d is a v4-mapped one.
 * Prints: pid, local port (0 where the kernel has taken it back), errno of connect.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static socklen_t parse(union address *to, const char *text, int port)
{
	memset(to, 0, sizeof(*to));
	if (strchr(text, ':')) {
		to->in6.sin6_family = AF_INET6;
		to->in6.sin6_port = htons(port);
		if (inet_pton(AF_INET6, text, &to->in6.sin6_addr) != 1)
			die(text);
		return sizeof(to->in6);
	}
	to->in.sin_family = AF_INET;
	to->in.sin_port = htons(port);
	if (inet_pton(AF_INET, text, &to->in.sin_addr) != 1)
		die(text);
	return sizeof(to->in);
}

static int port_of(int fd)
{
	union address here;
	socklen_t size = sizeof(here);

	if (getsockname(fd, &here.any, &size))
		die("getsockname");
	return ntohs(here.any.sa_family == AF_INET6 ? here.in6.sin6_port : here.in.sin_port);
}

/* A socket at a port of its own; `like` 0: any. */
static int bound(const union address *peer, socklen_t size, int like)
{
	int one = 1, fd = socket(peer->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	union address here = *peer;

	if (fd < 0)
		die("socket");
	if (here.any.sa_family == AF_INET6)
		here.in6.sin6_port = htons(like);
	else
		here.in.sin_port = htons(like);
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, &here.any, size))
		die("bind");
	return fd;
}

/* Two sockets cannot have the same four-tuple: the second connect never sends anything. The first
 * is a connection of its own, to the listener. */
static int taken(const union address *peer, socklen_t size, int *twin)
{
	*twin = bound(peer, size, 0);
	if (connect(*twin, &peer->any, size))
		die("connect");
	return bound(peer, size, port_of(*twin));
}

int main(int argc, char **argv)
{
	struct linger reset = {.l_onoff = 1};
	int fd, err, port, twin = -1;
	unsigned int patience = 200; /* ms */
	union address peer;
	socklen_t size;
	const char *mode;

	if (argc != 4) {
		fprintf(stderr, "usage: trigger MODE ADDRESS PORT\n");
		return 2;
	}
	mode = argv[1];
	size = parse(&peer, argv[2], atoi(argv[3]));
	if (!strcmp(mode, "local_error"))
		fd = taken(&peer, size, &twin);
	else if (!strcmp(mode, "bound"))
		fd = bound(&peer, size, 0);
	else
		fd = socket(peer.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	if (!strcmp(mode, "abandoned") && fcntl(fd, F_SETFL, O_NONBLOCK))
		die("fcntl");
	if (!strcmp(mode, "timeout") &&
	    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof(patience)))
		die("setsockopt");
	port = port_of(fd);
	err = connect(fd, &peer.any, size) ? errno : 0;
	if (!err || err == EINPROGRESS)
		port = port_of(fd);
	if (!strcmp(mode, "abort") && setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)))
		die("setsockopt");
	close(fd);
	if (twin >= 0)
		close(twin);
	printf("%d %d %d\n", getpid(), port, err);
	return 0;
}
