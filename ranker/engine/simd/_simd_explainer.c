/* The Python side of explanations: `Explainer`, made from a Forest with covers. */

#include "_simd_python.h"

#include <string.h>

typedef struct {
    PyObject_HEAD
    struct explainer *explainer;
    const struct path *path;
} Explainer;

static void explainer_dealloc(Explainer *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    explainer_free(self->explainer);
    PyObject_Free(self);
    Py_DECREF(type);
}

static struct explainer *explainer_from(PyObject *object)
{
    struct trees in;
    memset(&in, 0, sizeof in);
    if (get_integer(object, "num_features", &in.num_features) ||
        get_double(object, "base", &in.base))
        return NULL;
    const struct field fields[] = {
        SIZED(roots, in.num_trees),
        SIZED(feature, in.num_nodes),
        LIKE(threshold, in.num_nodes, 1),
        LIKE(left, in.num_nodes, 1),
        LIKE(missing_left, in.num_nodes, 1),
        LIKE(members_begin, in.num_nodes, 1),
        LIKE(members_end, in.num_nodes, 1),
        LIKE(cover, in.num_nodes, 1),
        SIZED(members, in.num_members),
        SIZED(floored, in.num_floored),
    };
    enum { NUM_FIELDS = sizeof fields / sizeof *fields };
    Py_buffer buffers[NUM_FIELDS];
    struct explainer *explainer = NULL;
    int got = 0;
    while (got < NUM_FIELDS && get_array(object, "forest", &fields[got], &buffers[got]) == 0) got++;
    if (got == NUM_FIELDS) {
        const char *problem = NULL;
        Py_BEGIN_ALLOW_THREADS
        explainer = explainer_new(&in, &problem);
        Py_END_ALLOW_THREADS
        if (explainer == NULL && problem == NULL)
            PyErr_NoMemory();
        else if (explainer == NULL)
            PyErr_Format(PyExc_ValueError, "forest: %s", problem);
    }
    while (got > 0) PyBuffer_Release(&buffers[--got]);
    return explainer;
}

static PyObject *explainer_make(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *forest;
    const char *name;
    static char *names[] = {"forest", "path", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Os:Explainer", names, &forest, &name))
        return NULL;
    const struct path *path = find_path(name);
    if (path == NULL) return NULL;
    struct explainer *explainer = explainer_from(forest);
    if (explainer == NULL) return NULL;
    Explainer *self = PyObject_New(Explainer, type);
    if (self == NULL) {
        explainer_free(explainer);
        return NULL;
    }
    self->explainer = explainer;
    self->path = path;
    return (PyObject *)self;
}

static PyObject *explainer_explain(Explainer *self, PyObject *args)
{
    PyObject *sequence, *result = NULL;
    Py_buffer out;
    struct batch batch;
    if (!PyArg_ParseTuple(args, "Ow*:explain", &sequence, &out)) return NULL;
    if (get_batch(sequence, self->explainer->num_features, &batch)) goto done;
    size_t width = self->explainer->num_features + (size_t)1;
    if ((size_t)out.len / sizeof(float) / width != batch.rows ||
        (size_t)out.len % (sizeof(float) * width) != 0) {
        PyErr_SetString(PyExc_ValueError, "contributions: expected float32 [n, features + 1]");
        goto done;
    }
    int failed;
    Py_BEGIN_ALLOW_THREADS
    failed = self->path->explain(self->explainer, batch.blocks, batch.rows, out.buf);
    Py_END_ALLOW_THREADS
    if (failed)
        PyErr_NoMemory();
    else
        result = Py_NewRef(Py_None);
done:
    release_batch(&batch);
    PyBuffer_Release(&out);
    return result;
}

static PyObject *explainer_path(Explainer *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(self->path->name);
}

static PyMethodDef explainer_methods[] = {
    {"explain", (PyCFunction)explainer_explain, METH_VARARGS,
     "explain(blocks, contributions)\n--\n\n"
     "What each feature adds to the scores of the rows of all blocks."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef explainer_properties[] = {
    {"path", (getter)explainer_path, NULL, "The instruction set in use.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot explainer_slots[] = {
    {Py_tp_new, explainer_make},
    {Py_tp_dealloc, explainer_dealloc},
    {Py_tp_methods, explainer_methods},
    {Py_tp_getset, explainer_properties},
    {Py_tp_doc, "Explainer(forest, path)\n--\n\nA forest prepared for explanations by one path."},
    {0, NULL},
};

PyType_Spec explainer_spec = {
    .name = "ranker.engine.simd._simd.Explainer",
    .basicsize = sizeof(Explainer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = explainer_slots,
};
