/* What the extension's Python types share: instruction paths, arrays by name, blocks of rows. */
#ifndef RANKER_SIMD_PYTHON_H
#define RANKER_SIMD_PYTHON_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include "_simd_forest.h"
#include "_simd_shap.h"

struct path {
    const char *name;
    score_rows *score;
    explain_rows *explain;
};

/* The path of that name, or NULL and a ValueError if this machine hasn't got it. */
const struct path *find_path(const char *name);

/* A list of the names of the paths that this machine has, fastest first. */
PyObject *path_names(void);

/* One array among an object's attributes: its name, and where its data and its length go. */
struct field {
    const char *name;
    const void **data;
    size_t *length; /* NULL: as long as `like` says */
    const size_t *like;
    size_t times; /* elements per unit of `like` */
    size_t item_size;
};

/* Fields of `in`, a struct whose members have the names of the attributes. */
#define SIZED(name, length) {#name, (const void **)&in.name, &length, NULL, 0, sizeof *in.name}
#define LIKE(name, like, times) {#name, (const void **)&in.name, NULL, &like, times, sizeof *in.name}

/* Reads an attribute as an array; its buffer is kept for release. These return -1 and set an
 * exception if an attribute is not what it should be; `what` is the object's name in it. */
int get_array(PyObject *object, const char *what, const struct field *field, Py_buffer *buffer);
int get_integer(PyObject *object, const char *name, int64_t *value);
int get_double(PyObject *object, const char *name, double *value);

/* The blocks of one call, where they lie. */
struct batch {
    PyObject *arrays;
    Py_buffer *buffers;
    struct block *blocks;
    Py_ssize_t num_blocks;
    size_t rows;
};

/* Takes hold of a sequence of float32 arrays [n, num_features]. To be released in any case. */
int get_batch(PyObject *sequence, uint32_t num_features, struct batch *batch);
void release_batch(struct batch *batch);

/* The types. */
extern PyType_Spec explainer_spec;

#endif
