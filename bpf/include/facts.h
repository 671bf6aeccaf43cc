/* SPDX-License-Identifier: GPL-2.0 */
/* The words that all probes say: fathom.events.observations holds the same, and a test compares. */
#ifndef FATHOM_FACTS_H
#define FATHOM_FACTS_H

#include "units.h"

/* Who opened it, seen from the local socket. */
enum direction {
	DIRECTION_UNKNOWN,
	DIRECTION_EGRESS,
	DIRECTION_INGRESS,
} BYTE_ENUM;

/* Why a connection failed, or ended other than by FIN. */
enum reason {
	REASON_NONE,
	REASON_REFUSED,
	REASON_RESET,
	REASON_UNREACHABLE,
	REASON_TIMEOUT,
	REASON_ABANDONED,
	REASON_LOCAL_ERROR,
} BYTE_ENUM;

/* How the process in a record is known to be the owner. */
enum owner_source {
	OWNER_SOURCE_UNKNOWN,
	OWNER_SOURCE_CONNECT,
	OWNER_SOURCE_CLOSE,
	OWNER_SOURCE_TASK_FILE,
	OWNER_SOURCE_ACCEPT,
	OWNER_SOURCE_LISTENER,
	OWNER_SOURCE_SOCKET,
	OWNER_SOURCE_PACKET,
} BYTE_ENUM;

#endif
