/* logs_print.h - rows of the request log as text. */
#pragma once
#include "core/store/row.h"
#include "core/util/buf.h"

void logs_table_head(struct buf *out);
void logs_table_row(const struct store_row *row, struct buf *out);
/* All fields but those of type JSON; RFC 4180, lines end with "\n". */
void logs_csv_head(struct buf *out);
void logs_csv_row(const struct store_row *row, struct buf *out);
