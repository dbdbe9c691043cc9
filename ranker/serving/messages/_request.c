/* Reads a RankRequest.
 *
 * The encoding is described at https://protobuf.dev/programming-guides/encoding/; the numbers of
 * fields are those of protos/ranker/v1/ranking.proto. A request is read only if it is as callers
 * usually write it. Whatever else it is, right or wrong, protobuf's own parser reads it: this one
 * never has to tell what is wrong with a message.
 */

#include "_request.h"

#include <string.h>

enum { MAX_VARINT_BYTES = 10, MAX_SIZE_BYTES = 5 };

/* Both return 0, or -1 if the bytes end too early or a number is too large. */

static int read_varint(struct bytes *in, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; in->at < in->end && shift < 7 * MAX_VARINT_BYTES; shift += 7) {
        uint64_t byte = *in->at++;
        if (shift == 63 && byte > 1) return -1;
        *value |= (byte & 127) << shift;
        if (byte < 128) return 0;
    }
    return -1;
}

static int read_bytes(struct bytes *in, struct bytes *value)
{
    const uint8_t *start = in->at;
    uint64_t size;
    if (read_varint(in, &size) || in->at - start > MAX_SIZE_BYTES ||
        size > (uint64_t)(in->end - in->at))
        return -1;
    value->at = in->at;
    value->end = in->at += size;
    return 0;
}

/* Reads a message whose fields are `numbers` and `strings`, by field number, which is below 16, so
 * that a tag is a byte; NULL: no such field. Returns -1 unless it has these alone, each once. */
static int read_fields(struct bytes in, uint64_t *const *numbers, struct bytes *const *strings,
                       unsigned count)
{
    unsigned seen = 0;
    while (in.at < in.end) {
        unsigned tag = *in.at++, field = tag >> 3, kind = tag & 7;
        if (field >= count || seen >> field & 1) return -1;
        seen |= 1u << field;
        if (kind == VARINT && numbers[field] != NULL) {
            if (read_varint(&in, numbers[field])) return -1;
        } else if (kind == LENGTH && strings[field] != NULL) {
            if (read_bytes(&in, strings[field])) return -1;
        } else {
            return -1;
        }
    }
    return 0;
}

int read_request(struct bytes message, uint64_t max_rows, struct request *found)
{
    struct bytes matrix = {NULL, NULL};
    uint64_t data_type = 0;
    memset(found, 0, sizeof *found);
    uint64_t *const numbers[] = {[8] = &found->top_k, [9] = &found->deadline_ms, [10] = NULL};
    struct bytes *const strings[] = {
        [1] = &found->request_id, [2] = &found->model, [3] = &found->model_version,
        [4] = &matrix,            [10] = &found->unit,
    };
    if (read_fields(message, numbers, strings, 11)) return -1;
    uint64_t *const of_matrix[] = {
        [1] = &found->rows, [2] = &found->columns, [3] = &data_type, [4] = NULL};
    struct bytes *const values[] = {[4] = &found->data};
    if (read_fields(matrix, of_matrix, values, 5)) return -1;
    if (found->rows == 0 || found->rows > max_rows || found->columns > INT32_MAX ||
        data_type > 1 || found->top_k > INT32_MAX || found->deadline_ms > UINT32_MAX)
        return -1;
    return (uint64_t)(found->data.end - found->data.at) == found->rows * found->columns * 4 ? 0
                                                                                            : -1;
}
