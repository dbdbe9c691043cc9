/* What a RankRequest says, where it lies; for those that are as callers usually write them. */

#pragma once

#include <stdint.h>

enum { VARINT = 0, LENGTH = 2 }; /* the kinds of fields in use */

struct bytes {
    const uint8_t *at, *end;
};

/* What a request has, with empty strings and zeros for what is absent. */
struct request {
    struct bytes request_id, model, model_version, unit, data;
    uint64_t top_k, deadline_ms, rows, columns;
};

/* Returns -1 if it is of another kind, is broken, or has more rows: protobuf is to read it. */
int read_request(struct bytes message, uint64_t max_rows, struct request *found);
