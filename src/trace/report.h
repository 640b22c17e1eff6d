/* SPDX-License-Identifier: MIT */
/*
 * What a replay found out, for people and for programs.
 */
#ifndef QUIRE_TRACE_REPORT_H
#define QUIRE_TRACE_REPORT_H

#include "trace/replay.h"

#include <stdio.h>

/* Facts about a recording that the report repeats. */
struct report_facts {
	char command[QREC_TEXT_MAX + 1]; /* "" if it does not say */
	const char *folio;		 /* as the user gave it */
};

void report_table(FILE *out, const struct replay *replay, const struct report_facts *facts);
void report_json(FILE *out, const struct replay *replay, const struct report_facts *facts);

#endif
