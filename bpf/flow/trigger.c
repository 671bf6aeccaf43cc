// SPDX-License-Identifier: GPL-2.0
/*
 * Causes exactly one flow, and says what it did, so that a test can ask the probe for just that.
 *
 *   trigger send|connected ADDRESS PORT SIZE	one datagram
 *   trigger segments ADDRESS PORT SIZE		three datagrams of SIZE bytes and one of 1, in one
 * call trigger options ADDRESS PORT SIZE		one datagram behind an IPv6 extension header
 *   trigger protocol ADDRESS NUMBER SIZE	one packet of that IP protocol
 *   trigger later ADDRESS NUMBER SIZE		one IPv4 fragment of it that is not the first
 *   trigger idle ADDRESS PORT SIZE		a socket that does nothing
 *
 * An IPv6 socket is used for an address with a colon, so that ::ffff:a.b.c.d is a v4-mapped one.
 * Prints: pid, local port, cookie of the socket.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif
#define UDP_SEGMENT 103 /* include/uapi/linux/udp.h */

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static char payload[1 << 16];

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

static void set(int fd, int level, int name, const void *value, socklen_t size)
{
	if (setsockopt(fd, level, name, value, size))
		die("setsockopt");
}

static void say(int fd)
{
	unsigned long long cookie = 0;
	socklen_t size = sizeof(cookie), room = sizeof(union address);
	union address here = {};

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) ||
	    getsockname(fd, &here.any, &room))
		die("getsockopt");
	printf("%d %d %llu\n", getpid(),
	       ntohs(here.any.sa_family == AF_INET6 ? here.in6.sin6_port : here.in.sin_port),
	       cookie);
}

static void send_to(int fd, const void *data, size_t size, const union address *to, socklen_t room)
{
	if (sendto(fd, data, size, 0, &to->any, room) != (ssize_t)size)
		die("sendto");
}

/* A fragment 800 bytes into a datagram: no transport header in it. */
static void send_later(int fd, int protocol, size_t size, const union address *to, socklen_t room)
{
	struct iphdr *ip = (void *)payload;

	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = 64;
	ip->protocol = protocol;
	ip->frag_off = htons(800 / 8);
	ip->daddr = to->in.sin_addr.s_addr;
	send_to(fd, payload, sizeof(*ip) + size, to, room);
}

int main(int argc, char **argv)
{
	/* A destination options header of one PadN option: RFC 8200, section 4.2. */
	const char options[8] = {0, 0, 1, 4, 0, 0, 0, 0};
	const char *mode = argc == 5 ? argv[1] : "";
	int fd, number, size, raw;
	union address to;
	socklen_t room;

	if (!*mode) {
		fprintf(stderr, "usage: trigger MODE ADDRESS PORT SIZE\n");
		return 2;
	}
	number = atoi(argv[3]);
	size = atoi(argv[4]);
	raw = !strcmp(mode, "protocol") || !strcmp(mode, "later");
	room = parse(&to, argv[2], raw ? 0 : number);
	fd = socket(to.any.sa_family, raw ? SOCK_RAW : SOCK_DGRAM,
		    !strcmp(mode, "later") ? IPPROTO_RAW
		    : raw		   ? number
					   : 0);
	if (fd < 0)
		die("socket");
	if (!strcmp(mode, "connected")) {
		if (connect(fd, &to.any, room) || send(fd, payload, size, 0) != size)
			die("send");
	} else if (!strcmp(mode, "segments")) {
		set(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size));
		send_to(fd, payload, 3 * size + 1, &to, room);
	} else if (!strcmp(mode, "options")) {
		set(fd, IPPROTO_IPV6, IPV6_DSTOPTS, options, sizeof(options));
		send_to(fd, payload, size, &to, room);
	} else if (!strcmp(mode, "later")) {
		send_later(fd, number, size, &to, room);
	} else if (strcmp(mode, "idle")) {
		send_to(fd, payload, size, &to, room);
	}
	say(fd);
	return 0;
}
