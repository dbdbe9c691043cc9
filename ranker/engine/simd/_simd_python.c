/* What the extension's Python types share. */

#include "_simd_python.h"

#include <string.h>

static const struct path ALL_PATHS[] = {
#if defined(__x86_64__)
    {"avx512", score_avx512, explain_avx512},
    {"avx2", score_avx2, explain_avx2},
#endif
    {"portable", score_portable, explain_portable},
};
enum { NUM_PATHS = sizeof ALL_PATHS / sizeof *ALL_PATHS };

/* Whether this processor and its operating system have what a path needs. */
static int supported(const struct path *path)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
               __builtin_cpu_supports("popcnt");
    if (path->score == score_avx2) return avx2;
    if (path->score == score_avx512)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vbmi");
#endif
    return path->score == score_portable;
}

const struct path *find_path(const char *name)
{
    for (int i = 0; i < NUM_PATHS; i++)
        if (strcmp(name, ALL_PATHS[i].name) == 0 && supported(&ALL_PATHS[i])) return &ALL_PATHS[i];
    PyErr_Format(PyExc_ValueError, "path: '%s' is not one of paths()", name);
    return NULL;
}

PyObject *path_names(void)
{
    PyObject *names = PyList_New(0);
    for (int i = 0; names != NULL && i < NUM_PATHS; i++) {
        if (!supported(&ALL_PATHS[i])) continue;
        PyObject *name = PyUnicode_FromString(ALL_PATHS[i].name);
        if (name == NULL || PyList_Append(names, name)) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

int get_array(PyObject *object, const char *what, const struct field *field, Py_buffer *buffer)
{
    PyObject *array = PyObject_GetAttrString(object, field->name);
    if (array == NULL) return -1;
    int failed = PyObject_GetBuffer(array, buffer, PyBUF_C_CONTIGUOUS);
    Py_DECREF(array);
    if (failed) return -1;
    size_t length = (size_t)buffer->len / field->item_size;
    if ((size_t)buffer->itemsize != field->item_size ||
        (field->length == NULL && length != field->times * *field->like)) {
        PyErr_Format(PyExc_ValueError, "%s.%s: wrong item size or length", what, field->name);
        PyBuffer_Release(buffer);
        return -1;
    }
    if (field->length != NULL) *field->length = length;
    *field->data = buffer->buf;
    return 0;
}

int get_integer(PyObject *object, const char *name, int64_t *value)
{
    PyObject *attribute = PyObject_GetAttrString(object, name);
    if (attribute == NULL) return -1;
    *value = PyLong_AsLongLong(attribute);
    Py_DECREF(attribute);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

int get_double(PyObject *object, const char *name, double *value)
{
    PyObject *attribute = PyObject_GetAttrString(object, name);
    if (attribute == NULL) return -1;
    *value = PyFloat_AsDouble(attribute);
    Py_DECREF(attribute);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

static int get_block(PyObject *array, uint32_t num_features, Py_buffer *buffer,
                     struct block *block)
{
    if (PyObject_GetBuffer(array, buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)) return -1;
    const char *format = buffer->format;
    if (format[0] != '\0' && strchr("@=<^", format[0])) format++; /* NumPy's for unaligned */
    if (strcmp(format, "f") != 0 || buffer->ndim != 2 ||
        buffer->shape[1] != (Py_ssize_t)num_features) {
        PyErr_Format(PyExc_ValueError, "blocks: expected float32 [n, %u]", num_features);
        PyBuffer_Release(buffer);
        return -1;
    }
    block->data = buffer->buf;
    block->rows = (size_t)buffer->shape[0];
    return 0;
}

int get_batch(PyObject *sequence, uint32_t num_features, struct batch *batch)
{
    memset(batch, 0, sizeof *batch);
    batch->arrays = PySequence_Tuple(sequence);
    if (batch->arrays == NULL) return -1;
    Py_ssize_t count = PyTuple_Size(batch->arrays);
    batch->buffers = PyMem_Malloc((size_t)count * sizeof *batch->buffers);
    batch->blocks = PyMem_Malloc((size_t)count * sizeof *batch->blocks);
    if (batch->buffers == NULL || batch->blocks == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (; batch->num_blocks < count; batch->num_blocks++) {
        Py_ssize_t i = batch->num_blocks;
        if (get_block(PyTuple_GetItem(batch->arrays, i), num_features, &batch->buffers[i],
                      &batch->blocks[i]))
            return -1;
        batch->rows += batch->blocks[i].rows;
    }
    return 0;
}

void release_batch(struct batch *batch)
{
    while (batch->num_blocks > 0) PyBuffer_Release(&batch->buffers[--batch->num_blocks]);
    PyMem_Free(batch->blocks);
    PyMem_Free(batch->buffers);
    Py_XDECREF(batch->arrays);
}
