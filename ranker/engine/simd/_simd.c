/* The kernel's Python side: `Kernel`, made from a Layout, and the paths this machine has. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <string.h>

#include "_simd_crew.h"

struct path {
    const char *name;
    score_rows *score;
};

static const struct path ALL_PATHS[] = {
#if defined(__x86_64__)
    {"avx512", score_avx512},
    {"avx2", score_avx2},
#endif
    {"portable", score_portable},
};
enum { NUM_PATHS = sizeof ALL_PATHS / sizeof *ALL_PATHS };

enum {
    MIN_SHARED_ROWS = 1000, /* fewer take little more time than a thread to wake up */
    MAX_THREADS = 1024,
};

/* Whether this processor and its operating system have what a path needs. */
static int supported(const struct path *path)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
               __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
    if (path->score == score_avx2) return avx2;
    if (path->score == score_avx512)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vbmi");
#endif
    return path->score == score_portable;
}

static PyObject *paths(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    PyObject *names = PyList_New(0);
    for (int i = 0; names != NULL && i < NUM_PATHS; i++) {
        if (!supported(&ALL_PATHS[i])) continue;
        PyObject *name = PyUnicode_FromString(ALL_PATHS[i].name);
        if (name == NULL || PyList_Append(names, name)) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

typedef struct {
    PyObject_HEAD
    struct forest *forest;
    const struct path *path;
    struct crew *crew; /* NULL: whoever calls scores alone */
} Kernel;

static void kernel_dealloc(Kernel *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    crew_free(self->crew);
    forest_free(self->forest);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* One array of the layout: its name, and where its data and its length go. */
struct field {
    const char *name;
    const void **data;
    size_t *length; /* NULL: as long as `like` says */
    const size_t *like;
    size_t times; /* elements per unit of `like` */
    size_t item_size;
};

/* Reads an attribute of the layout as an array; its buffer is kept for release. */
static int get_array(PyObject *layout, const struct field *field, Py_buffer *buffer)
{
    PyObject *array = PyObject_GetAttrString(layout, field->name);
    if (array == NULL) return -1;
    int failed = PyObject_GetBuffer(array, buffer, PyBUF_C_CONTIGUOUS);
    Py_DECREF(array);
    if (failed) return -1;
    size_t length = (size_t)buffer->len / field->item_size;
    if ((size_t)buffer->itemsize != field->item_size ||
        (field->length == NULL && length != field->times * *field->like)) {
        PyErr_Format(PyExc_ValueError, "layout.%s: wrong item size or length", field->name);
        PyBuffer_Release(buffer);
        return -1;
    }
    if (field->length != NULL) *field->length = length;
    *field->data = buffer->buf;
    return 0;
}

static int get_integer(PyObject *layout, const char *name, int64_t *value)
{
    PyObject *attribute = PyObject_GetAttrString(layout, name);
    if (attribute == NULL) return -1;
    *value = PyLong_AsLongLong(attribute);
    Py_DECREF(attribute);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

static int get_float(PyObject *layout, const char *name, float *value)
{
    PyObject *attribute = PyObject_GetAttrString(layout, name);
    if (attribute == NULL) return -1;
    *value = (float)PyFloat_AsDouble(attribute);
    Py_DECREF(attribute);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

static struct forest *forest_from(PyObject *object)
{
    struct layout in;
    memset(&in, 0, sizeof in);
    if (get_integer(object, "num_features", &in.num_features) ||
        get_integer(object, "num_columns", &in.num_columns) ||
        get_integer(object, "depth", &in.depth) ||
        get_float(object, "base", &in.base))
        return NULL;
    size_t num_floored;
#define SIZED(name, length) {#name, (const void **)&in.name, &length, NULL, 0, sizeof *in.name}
#define LIKE(name, like, times) {#name, (const void **)&in.name, NULL, &like, times, sizeof *in.name}
    const struct field fields[] = {
        SIZED(floored, num_floored),
        SIZED(cut_feature, in.num_cuts),
        LIKE(cut_end, in.num_cuts, 1),
        LIKE(cut_columns, in.num_cuts, 2),
        SIZED(thresholds, in.num_thresholds),
        SIZED(set_feature, in.num_sets),
        LIKE(set_end, in.num_sets, 1),
        LIKE(set_column, in.num_sets, 1),
        LIKE(set_missing, in.num_sets, 1),
        SIZED(members, in.num_members),
        SIZED(split_column, in.num_splits),
        LIKE(split_code, in.num_splits, 1),
        LIKE(exits, in.num_splits, 1),
        SIZED(rest, in.num_trees),
        SIZED(deep_column, in.num_deep),
        LIKE(deep_code, in.num_deep, 1),
        LIKE(deep_left, in.num_deep, 1),
        LIKE(deep_value, in.num_deep, 1),
        SIZED(step_column, in.num_steps),
        LIKE(step_code, in.num_steps, 1),
        LIKE(step_from, in.num_steps, 1),
        LIKE(step_to, in.num_steps, 1),
        SIZED(level_end, in.num_levels),
        SIZED(tree_levels, in.num_stepped),
        SIZED(places, in.num_places),
    };
#undef SIZED
#undef LIKE
    enum { NUM_FIELDS = sizeof fields / sizeof *fields };
    Py_buffer buffers[NUM_FIELDS];
    struct forest *forest = NULL;
    int got = 0;
    while (got < NUM_FIELDS && get_array(object, &fields[got], &buffers[got]) == 0) got++;
    if (got == NUM_FIELDS) {
        const char *problem = NULL;
        if ((int64_t)num_floored != in.num_features)
            problem = "floored";
        else
            forest = forest_new(&in, &problem);
        if (forest == NULL && problem == NULL)
            PyErr_NoMemory();
        else if (forest == NULL)
            PyErr_Format(PyExc_ValueError, "layout.%s: out of bounds", problem);
    }
    while (got > 0) PyBuffer_Release(&buffers[--got]);
    return forest;
}

static PyObject *kernel_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *layout;
    const char *name;
    Py_ssize_t threads;
    static char *names[] = {"layout", "path", "threads", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Osn:Kernel", names, &layout, &name,
                                     &threads))
        return NULL;
    if (threads < 1 || threads > MAX_THREADS)
        return PyErr_Format(PyExc_ValueError, "threads: expected 1 to %d, got %zd", MAX_THREADS,
                            threads);
    const struct path *path = NULL;
    for (int i = 0; i < NUM_PATHS; i++)
        if (strcmp(name, ALL_PATHS[i].name) == 0 && supported(&ALL_PATHS[i])) path = &ALL_PATHS[i];
    if (path == NULL)
        return PyErr_Format(PyExc_ValueError, "path: '%s' is not one of paths()", name);
    struct forest *forest = forest_from(layout);
    if (forest == NULL) return NULL;
    struct crew *crew = threads > 1 ? crew_new((size_t)threads - 1) : NULL;
    if (threads > 1 && crew == NULL)
        PyErr_Format(PyExc_OSError, "threads: the system doesn't start %zd more", threads - 1);
    Kernel *self = PyErr_Occurred() ? NULL : PyObject_New(Kernel, type);
    if (self == NULL) {
        crew_free(crew);
        forest_free(forest);
        return NULL;
    }
    self->forest = forest;
    self->path = path;
    self->crew = crew;
    return (PyObject *)self;
}

/* A block of rows, where it lies. Keeps the buffer, which the caller releases. */
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

static PyObject *kernel_score(Kernel *self, PyObject *args)
{
    PyObject *sequence;
    Py_buffer scores;
    if (!PyArg_ParseTuple(args, "Ow*:score", &sequence, &scores)) return NULL;
    PyObject *arrays = PySequence_Tuple(sequence);
    Py_ssize_t num_blocks = arrays ? PyTuple_Size(arrays) : 0;
    Py_buffer *buffers = PyMem_Malloc((size_t)num_blocks * sizeof *buffers);
    struct block *blocks = PyMem_Malloc((size_t)num_blocks * sizeof *blocks);
    Py_ssize_t got = 0;
    PyObject *result = NULL;
    if (arrays == NULL) goto done;
    if (buffers == NULL || blocks == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    size_t rows = 0;
    for (; got < num_blocks; got++) {
        if (get_block(PyTuple_GetItem(arrays, got), self->forest->num_features, &buffers[got],
                      &blocks[got]))
            goto done;
        rows += blocks[got].rows;
    }
    if ((size_t)scores.len != rows * sizeof(float)) {
        PyErr_SetString(PyExc_ValueError, "scores: expected one float32 per row");
        goto done;
    }
    int failed = 0;
    if (rows > 0) {
        Py_BEGIN_ALLOW_THREADS
        failed = self->crew != NULL && rows >= MIN_SHARED_ROWS
                     ? crew_score(self->crew, self->path->score, self->forest, blocks, rows,
                                  scores.buf)
                     : self->path->score(self->forest, blocks, 0, rows, scores.buf);
        Py_END_ALLOW_THREADS
    }
    if (failed)
        PyErr_NoMemory();
    else
        result = Py_NewRef(Py_None);
done:
    while (got > 0) PyBuffer_Release(&buffers[--got]);
    PyMem_Free(blocks);
    PyMem_Free(buffers);
    Py_XDECREF(arrays);
    PyBuffer_Release(&scores);
    return result;
}

static PyObject *kernel_path(Kernel *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(self->path->name);
}

static PyMethodDef kernel_methods[] = {
    {"score", (PyCFunction)kernel_score, METH_VARARGS,
     "score(blocks, scores)\n--\n\nScores the rows of all blocks as one batch."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef kernel_properties[] = {
    {"path", (getter)kernel_path, NULL, "The instruction set in use.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot kernel_slots[] = {
    {Py_tp_new, kernel_new},
    {Py_tp_dealloc, kernel_dealloc},
    {Py_tp_methods, kernel_methods},
    {Py_tp_getset, kernel_properties},
    {Py_tp_doc, "Kernel(layout, path, threads)\n--\n\n"
                "A forest packed for the walks of one path, and how many threads share a batch."},
    {0, NULL},
};

static PyType_Spec kernel_spec = {
    .name = "ranker.engine.simd._simd.Kernel",
    .basicsize = sizeof(Kernel),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = kernel_slots,
};

static PyMethodDef module_methods[] = {
    {"paths", paths, METH_NOARGS,
     "paths()\n--\n\nThe instruction paths that this machine supports, fastest first."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&kernel_spec);
    if (type == NULL) return -1;
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_simd",
    .m_doc = "Walks a laid-out forest with the machine's vector instructions.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__simd(void)
{
    return PyModuleDef_Init(&module);
}
