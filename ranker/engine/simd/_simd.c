/* The kernel's Python side: `Kernel`, made from a Layout, and the paths this machine has. */

#include "_simd_python.h"

#include <string.h>

#include "_simd_crew.h"

enum {
    MIN_SHARED_ROWS = 1000, /* fewer take little more time than a thread to wake up */
    MAX_THREADS = 1024,
};

static PyObject *paths(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return path_names();
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

static struct forest *forest_from(PyObject *object)
{
    struct layout in;
    double base;
    memset(&in, 0, sizeof in);
    if (get_integer(object, "num_features", &in.num_features) ||
        get_integer(object, "num_columns", &in.num_columns) ||
        get_integer(object, "depth", &in.depth) ||
        get_double(object, "base", &base))
        return NULL;
    in.base = (float)base;
    size_t num_floored;
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
    enum { NUM_FIELDS = sizeof fields / sizeof *fields };
    Py_buffer buffers[NUM_FIELDS];
    struct forest *forest = NULL;
    int got = 0;
    while (got < NUM_FIELDS && get_array(object, "layout", &fields[got], &buffers[got]) == 0) got++;
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
    const struct path *path = find_path(name);
    if (path == NULL) return NULL;
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

static PyObject *kernel_score(Kernel *self, PyObject *args)
{
    PyObject *sequence, *result = NULL;
    Py_buffer scores;
    struct batch batch;
    if (!PyArg_ParseTuple(args, "Ow*:score", &sequence, &scores)) return NULL;
    if (get_batch(sequence, self->forest->num_features, &batch)) goto done;
    size_t rows = batch.rows;
    if ((size_t)scores.len != rows * sizeof(float)) {
        PyErr_SetString(PyExc_ValueError, "scores: expected one float32 per row");
        goto done;
    }
    int failed = 0;
    if (rows > 0) {
        Py_BEGIN_ALLOW_THREADS
        failed = self->crew != NULL && rows >= MIN_SHARED_ROWS
                     ? crew_score(self->crew, self->path->score, self->forest, batch.blocks, rows,
                                  scores.buf)
                     : self->path->score(self->forest, batch.blocks, 0, rows, scores.buf);
        Py_END_ALLOW_THREADS
    }
    if (failed)
        PyErr_NoMemory();
    else
        result = Py_NewRef(Py_None);
done:
    release_batch(&batch);
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
    PyType_Spec *specs[] = {&kernel_spec, &explainer_spec};
    for (int i = 0; i < 2; i++) {
        PyObject *type = PyType_FromSpec(specs[i]);
        if (type == NULL) return -1;
        int failed = PyModule_AddType(module, (PyTypeObject *)type);
        Py_DECREF(type);
        if (failed) return -1;
    }
    return 0;
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
