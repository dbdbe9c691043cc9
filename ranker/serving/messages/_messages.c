/* The messages of a list in C: `read` for the RankRequests that most are, `write` for RankResponses.
 *
 * The encoding is described at https://protobuf.dev/programming-guides/encoding/; the numbers of
 * fields are those of protos/ranker/v1/ranking.proto.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <stdint.h>
#include <string.h>

#include "_ranking.h"
#include "_request.h"

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "floats are copied as they are, and messages have them with the least byte first"
#endif

enum { ON_STACK = 512 }; /* keys of a list that is ranked without memory of its own */

/* ---- Reading ------------------------------------------------------------------------- */

static PyStructSequence_Field list_fields[] = {
    {"request_id", "The caller's own mark."},
    {"model", "The model's name."},
    {"model_version", "A version, or @ and a label."},
    {"unit", "For whom is ranked."},
    {"top_k", "How many of the best; 0: all."},
    {"deadline_ms", "Within how many milliseconds; 0: no limit of its own."},
    {"rows", "Candidates; at least 1."},
    {"columns", "Their features."},
    {"offset", "Where in the message the rows * columns float32 begin."},
    {NULL, NULL},
};

static PyStructSequence_Desc list_description = {
    .name = "ranker.serving.messages.List",
    .doc = "What a request says that is read here.",
    .fields = list_fields,
    .n_in_sequence = 9,
};

/* The items of a list, which `list` takes over; -1 with an exception set. */
static int set_items(PyObject *list, const struct request *found, const uint8_t *start)
{
    const struct bytes texts[] = {found->request_id, found->model, found->model_version,
                                  found->unit};
    const uint64_t numbers[] = {
        found->top_k, found->deadline_ms, found->rows, found->columns,
        found->data.at == NULL ? 0 : (uint64_t)(found->data.at - start),
    };
    enum { TEXTS = sizeof texts / sizeof *texts, NUMBERS = sizeof numbers / sizeof *numbers };
    for (int i = 0; i < TEXTS + NUMBERS; i++) {
        PyObject *item =
            i < TEXTS ? PyUnicode_DecodeUTF8((const char *)texts[i].at,
                                             texts[i].end - texts[i].at, "strict")
                      : PyLong_FromUnsignedLongLong(numbers[i - TEXTS]);
        if (item == NULL) return -1;
        PyStructSequence_SetItem(list, i, item);
    }
    return 0;
}

static PyObject *messages_read(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) return PyErr_Format(PyExc_TypeError, "read() takes 2 arguments");
    char *content;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(args[0], &content, &size)) return NULL;
    Py_ssize_t max_rows = PyLong_AsSsize_t(args[1]);
    if (max_rows < 0 || max_rows > INT32_MAX)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "max_rows: out of range");
    const uint8_t *start = (const uint8_t *)content;
    struct request found;
    if (read_request((struct bytes){start, start + size}, (uint64_t)max_rows, &found))
        Py_RETURN_NONE;
    PyObject *list = PyStructSequence_New(*(PyTypeObject **)PyModule_GetState(module));
    if (list == NULL || set_items(list, &found, start) == 0) return list;
    Py_DECREF(list);
    if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) return NULL;
    PyErr_Clear(); /* protobuf says what is wrong */
    Py_RETURN_NONE;
}

/* ---- Writing ------------------------------------------------------------------------- */

static size_t varint_size(uint64_t value)
{
    size_t size = 1;
    while (value >>= 7) size++;
    return size;
}

static uint8_t *put_varint(uint8_t *out, uint64_t value)
{
    for (; value > 127; value >>= 7) *out++ = (uint8_t)(value | 128);
    *out++ = (uint8_t)value;
    return out;
}

/* All of these have fields below 16, whose tag is a byte. */
static uint8_t *put_head(uint8_t *out, int field, size_t size)
{
    *out++ = (uint8_t)(field << 3 | LENGTH);
    return put_varint(out, size);
}

struct string {
    const char *data;
    Py_ssize_t size;
};

static size_t string_size(struct string string)
{
    return 1 + varint_size((uint64_t)string.size) + (size_t)string.size;
}

static uint8_t *put_string(uint8_t *out, int field, struct string string)
{
    out = put_head(out, field, (size_t)string.size);
    memcpy(out, string.data, (size_t)string.size);
    return out + string.size;
}

/* Of a field that is a string: no more than an absent one if it is empty. */
static size_t text_size(struct string string)
{
    return string.size == 0 ? 0 : string_size(string);
}

static uint8_t *put_text(uint8_t *out, int field, struct string string)
{
    return string.size == 0 ? out : put_string(out, field, string);
}

static int get_string(PyObject *object, struct string *string)
{
    string->data = PyUnicode_AsUTF8AndSize(object, &string->size);
    return string->data == NULL ? -1 : 0;
}

/* Whole microseconds, as many as there is room for. */
static int get_microseconds(PyObject *seconds, uint32_t *microseconds)
{
    double value = PyFloat_AsDouble(seconds);
    if (value == -1 && PyErr_Occurred()) return -1;
    value = value * 1e6 + 0.5;
    *microseconds = value >= 4294967295.0 ? UINT32_MAX : value > 0 ? (uint32_t)value : 0;
    return 0;
}

enum { REQUEST_ID, MODEL, VERSION, ARM, TEXTS };
enum { TIMES = 3 };

struct answer {
    struct string texts[TEXTS];
    uint32_t times[TIMES];
    const uint64_t *ranking;
    size_t best;
    const char *scores;
    struct string *ids; /* of the best; NULL: none */
};

static PyObject *encode(const struct answer *answer)
{
    size_t indices = 0, timing = 0;
    size_t floats = answer->best * sizeof(float);
    for (size_t i = 0; i < answer->best; i++) indices += varint_size((uint32_t)answer->ranking[i]);
    for (int i = 0; i < TIMES; i++)
        timing += answer->times[i] == 0 ? 0 : 1 + varint_size(answer->times[i]);
    size_t size = 1 + varint_size(indices) + indices + 1 + varint_size(floats) + floats +
                  1 + varint_size(timing) + timing;
    for (int i = 0; i < TEXTS; i++) size += text_size(answer->texts[i]);
    for (size_t i = 0; answer->ids != NULL && i < answer->best; i++)
        size += string_size(answer->ids[i]);
    PyObject *message = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (message == NULL) return NULL;
    uint8_t *out = (uint8_t *)PyBytes_AsString(message);
    out = put_text(out, 1, answer->texts[REQUEST_ID]);
    out = put_text(out, 3, answer->texts[MODEL]);
    out = put_text(out, 4, answer->texts[VERSION]);
    out = put_head(out, 5, indices);
    for (size_t i = 0; i < answer->best; i++) out = put_varint(out, (uint32_t)answer->ranking[i]);
    out = put_head(out, 6, floats);
    for (size_t i = 0; i < answer->best; i++, out += sizeof(float))
        memcpy(out, answer->scores + (uint32_t)answer->ranking[i] * sizeof(float), sizeof(float));
    for (size_t i = 0; answer->ids != NULL && i < answer->best; i++)
        out = put_string(out, 7, answer->ids[i]);
    out = put_head(out, 8, timing);
    for (int i = 0; i < TIMES; i++) {
        if (answer->times[i] == 0) continue;
        *out++ = (uint8_t)((i + 1) << 3 | VARINT);
        out = put_varint(out, answer->times[i]);
    }
    put_text(out, 9, answer->texts[ARM]);
    return message;
}

/* The ids of the best, which the caller frees. */
static struct string *best_ids(PyObject *ids, size_t count, const struct answer *answer)
{
    if ((size_t)PyList_Size(ids) != count) {
        PyErr_Format(PyExc_ValueError, "ids: expected none or one per score");
        return NULL;
    }
    struct string *found = PyMem_Malloc(answer->best * sizeof *found);
    if (found == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (size_t i = 0; i < answer->best; i++)
        if (get_string(PyList_GetItem(ids, (Py_ssize_t)(uint32_t)answer->ranking[i]), &found[i])) {
            PyMem_Free(found);
            return NULL;
        }
    return found;
}

static PyObject *messages_write(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 10) return PyErr_Format(PyExc_TypeError, "write() takes 10 arguments");
    struct answer answer = {.ids = NULL};
    for (int i = 0; i < TEXTS; i++)
        if (get_string(args[i], &answer.texts[i])) return NULL;
    for (int i = 0; i < TIMES; i++)
        if (get_microseconds(args[7 + i], &answer.times[i])) return NULL;
    Py_ssize_t top_k = PyLong_AsSsize_t(args[5]);
    if (top_k < 0)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "top_k: negative");
    if (!PyList_Check(args[6])) return PyErr_Format(PyExc_TypeError, "ids: expected a list");
    Py_buffer scores;
    if (PyObject_GetBuffer(args[4], &scores, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)) return NULL;
    PyObject *message = NULL;
    uint64_t on_stack[ON_STACK], *memory = on_stack;
    size_t rows = (size_t)scores.len / sizeof(float);
    if (scores.ndim != 1 || strcmp(scores.format, "f") != 0 || rows == 0 || rows > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "scores: expected float32 [n], n > 0");
        goto done;
    }
    if (2 * rows > ON_STACK && (memory = PyMem_Malloc(2 * rows * sizeof *memory)) == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    answer.scores = scores.buf;
    answer.best = top_k > 0 && (size_t)top_k < rows ? (size_t)top_k : rows;
    answer.ranking = rank(answer.scores, rows, answer.best, memory);
    if (PyList_Size(args[6]) == 0 || (answer.ids = best_ids(args[6], rows, &answer)) != NULL)
        message = encode(&answer);
    PyMem_Free(answer.ids);
done:
    if (memory != on_stack) PyMem_Free(memory);
    PyBuffer_Release(&scores);
    return message;
}

/* ---- The module ---------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"read", (PyCFunction)(void (*)(void))messages_read, METH_FASTCALL,
     "read(message, max_rows, /)\n--\n\nReads a RankRequest; None: protobuf is to do that."},
    {"write", (PyCFunction)(void (*)(void))messages_write, METH_FASTCALL,
     "write(request_id, model, version, arm, scores, top_k, ids, queued, scoring, total, /)\n--\n\n"
     "Ranks, and encodes a RankResponse."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    PyTypeObject *type = PyStructSequence_NewType(&list_description);
    *(PyTypeObject **)PyModule_GetState(module) = type;
    return type == NULL ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_messages",
    .m_doc = "Reads the requests that most are, and writes answers.",
    .m_size = sizeof(PyTypeObject *),
    .m_methods = methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__messages(void)
{
    return PyModuleDef_Init(&module);
}
