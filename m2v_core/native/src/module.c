/* The Python module: objects that own the tables, and functions that validate their arguments.

   All data from files or callers is validated here or where it is read: types, shapes and alignment of arrays, token
   ids against the vocabulary, rows of the mapping against the table. Only the stable ABI of Python 3.11 is used, so one
   build serves that version and later ones. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdlib.h>

#include "reading.h"

enum {
    N_FIRST_SLOTS = 1024,
    BYTES_WITH_GIL = 8192, /* shorter input is encoded without releasing the GIL, which would cost more than it saves */
};

static PyTypeObject *chunk_table_type, *subwords_type, *encoder_type;

/* ---- Arrays ---- */

/* Borrow the memory of a C-contiguous array of the given item format; `n_items` is checked unless it is negative. */
static bool get_array(PyObject *object, Py_buffer *view, const char *formats, Py_ssize_t n_items, bool is_written,
                      const char *name) {
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (is_written ? PyBUF_WRITABLE : 0)) < 0)
        return false;
    const char *format = view->format ? view->format : "B";
    if (strcmp(format, "l") == 0 && view->itemsize == sizeof(int32_t))
        format = "i"; /* NumPy's int32 is a long on Windows */
    if (strlen(format) != 1 || !strchr(formats, format[0])) {
        PyErr_Format(PyExc_TypeError, "%s must be an array of format %s, not %s", name, formats, format);
    } else if (n_items >= 0 && view->len / view->itemsize != n_items) {
        PyErr_Format(PyExc_ValueError, "%s must have %zd items, not %zd", name, n_items, view->len / view->itemsize);
    } else if ((uintptr_t)view->buf % (size_t)view->itemsize) {
        PyErr_Format(PyExc_ValueError, "%s must be aligned to its items", name);
    } else {
        return true;
    }
    PyBuffer_Release(view);
    view->obj = NULL;
    return false;
}

static void release(Py_buffer *view) {
    if (view->obj)
        PyBuffer_Release(view);
}

/* A whole number in [low, high]. */
static bool get_number(PyObject *object, long long low, long long high, const char *name, long long *number) {
    *number = PyLong_AsLongLong(object);
    if (*number == -1 && PyErr_Occurred())
        return false;
    if (*number < low || *number > high) {
        PyErr_Format(PyExc_ValueError, "%s must be from %lld to %lld, not %lld", name, low, high, *number);
        return false;
    }
    return true;
}

static bool check_arguments(Py_ssize_t n_given, Py_ssize_t n_expected, const char *name) {
    if (n_given == n_expected)
        return true;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", name, n_expected, n_given);
    return false;
}

/* ---- ChunkTable ---- */

typedef struct {
    PyObject_HEAD
    ChunkTable *table;
    int32_t n_vocabulary;
} ChunkTableObject;

/* Takes ownership of the table. */
static PyObject *chunk_table_object(ChunkTable *table, int32_t n_vocabulary) {
    ChunkTableObject *object = PyObject_New(ChunkTableObject, chunk_table_type);
    if (!object) {
        free_chunk_table(table);
        free(table);
        return NULL;
    }
    object->table = table;
    object->n_vocabulary = n_vocabulary;
    return (PyObject *)object;
}

static PyObject *chunk_table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"n_vocabulary", "hash_mask", NULL};
    int n_vocabulary;
    unsigned long long hash_mask = UINT64_MAX;
    (void)type;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|K", names, &n_vocabulary, &hash_mask))
        return NULL;
    ChunkTable *table = malloc(sizeof(ChunkTable));
    if (!table || !init_chunk_table(table, N_FIRST_SLOTS, hash_mask)) {
        free(table);
        return PyErr_NoMemory();
    }
    return chunk_table_object(table, n_vocabulary);
}

static void chunk_table_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    ChunkTableObject *object = (ChunkTableObject *)self;
    free_chunk_table(object->table);
    free(object->table);
    PyObject_Free(self);
    Py_DECREF(type);
}

static Py_ssize_t chunk_table_length(PyObject *self) {
    return (Py_ssize_t)((ChunkTableObject *)self)->table->n_chunks;
}

static PyObject *chunk_table_counts(PyObject *self, void *closure) {
    const ChunkTable *table = ((ChunkTableObject *)self)->table;
    (void)closure;
    return Py_BuildValue("(nnnn)", (Py_ssize_t)table->n_slots, (Py_ssize_t)table->n_chunks,
                         (Py_ssize_t)table->n_token_ids, (Py_ssize_t)table->n_long_bytes);
}

/* Copy a list of token ids, validated against the vocabulary; the caller frees it. NULL with an exception on error. */
static int32_t *copied_ids(PyObject *list, int32_t n_vocabulary, size_t *n_ids) {
    if (!PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "token ids must be a list");
        return NULL;
    }
    const Py_ssize_t n = PyList_Size(list);
    int32_t *ids = malloc(((size_t)n + 1) * sizeof(int32_t));
    if (!ids) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        long long id;
        if (!get_number(PyList_GetItem(list, i), 0, (long long)n_vocabulary - 1, "a token id", &id)) {
            free(ids);
            return NULL;
        }
        ids[i] = (int32_t)id;
    }
    *n_ids = (size_t)n;
    return ids;
}

static PyObject *chunk_table_add(PyObject *self, PyObject *args) {
    ChunkTableObject *object = (ChunkTableObject *)self;
    ChunkTable *table = object->table;
    const char *bytes;
    Py_ssize_t length;
    PyObject *list;
    int marks;
    if (!PyArg_ParseTuple(args, "y#Oi", &bytes, &length, &list, &marks))
        return NULL;
    if (length < 1 || length > MAX_CHUNK_BYTES || marks < 0 || marks > 255) {
        PyErr_SetString(PyExc_ValueError, "a chunk must have at least one byte, and its marks must be from 0 to 255");
        return NULL;
    }
    size_t n_ids;
    int32_t *ids = copied_ids(list, object->n_vocabulary, &n_ids);
    if (!ids)
        return NULL;
    const ChunkKey key = chunk_key((Chunk){(const uint8_t *)bytes, (size_t)length}, (const uint8_t *)bytes + length);
    bool has_room = n_ids <= MAX_TOKENS_OF_CHUNK && grow_chunk_table(table, 1, n_ids, (size_t)length);
    if (has_room) {
        Slot *slot = find_chunk(table, &key);
        if (slot->meta == 0)
            insert_chunk(table, slot, &key, ids, n_ids, (unsigned)marks);
    }
    free(ids);
    if (!has_room)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *list_of_ids(const int32_t *ids, size_t n_ids) {
    PyObject *list = PyList_New((Py_ssize_t)n_ids);
    for (size_t i = 0; list && i < n_ids; i++) {
        PyObject *id = PyLong_FromLong(ids[i]);
        if (!id)
            Py_CLEAR(list);
        else
            PyList_SetItem(list, (Py_ssize_t)i, id);
    }
    return list;
}

static PyObject *chunk_table_get(PyObject *self, PyObject *args) {
    const ChunkTable *table = ((ChunkTableObject *)self)->table;
    const char *bytes;
    Py_ssize_t length;
    if (!PyArg_ParseTuple(args, "y#", &bytes, &length))
        return NULL;
    if (length < 1)
        Py_RETURN_NONE;
    const ChunkKey key = chunk_key((Chunk){(const uint8_t *)bytes, (size_t)length}, (const uint8_t *)bytes + length);
    const Slot *slot = find_chunk(table, &key);
    if (slot->meta == 0)
        Py_RETURN_NONE;
    const size_t n_tokens = n_tokens_of(slot->meta);
    int32_t unpacked[2];
    PyObject *ids = list_of_ids(slot_token_ids(table, slot, n_tokens, unpacked), n_tokens);
    return ids ? Py_BuildValue("(NI)", ids, marks_of(slot->meta)) : NULL;
}

static PyObject *chunk_table_awaiting(PyObject *self, PyObject *unused) {
    const ChunkTable *table = ((ChunkTableObject *)self)->table;
    PyObject *chunks = PyList_New(0);
    (void)unused;
    for (size_t i = 0; chunks && i < table->n_slots; i++) {
        const Slot *slot = &table->slots[i];
        if (!(marks_of(slot->meta) & AWAITS_TOKENIZER))
            continue;
        const size_t length = length_of(slot->meta);
        PyObject *chunk =
            PyUnicode_DecodeUTF8((const char *)slot_bytes(table, slot, length), (Py_ssize_t)length, "strict");
        if (!chunk || PyList_Append(chunks, chunk) < 0)
            Py_CLEAR(chunks);
        Py_XDECREF(chunk);
    }
    return chunks;
}

static PyObject *chunk_table_fill(PyObject *self, PyObject *args) {
    ChunkTableObject *object = (ChunkTableObject *)self;
    ChunkTable *table = object->table;
    PyObject *sequences, *marks;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &sequences, &PyList_Type, &marks))
        return NULL;
    Py_ssize_t n_filled = 0;
    for (size_t i = 0; i < table->n_slots; i++) {
        Slot *slot = &table->slots[i];
        if (!(marks_of(slot->meta) & AWAITS_TOKENIZER))
            continue;
        if (n_filled == PyList_Size(sequences) || n_filled == PyList_Size(marks))
            break;
        long long mark;
        if (!get_number(PyList_GetItem(marks, n_filled), 0, 255, "marks", &mark))
            return NULL;
        size_t n_ids;
        int32_t *ids = copied_ids(PyList_GetItem(sequences, n_filled++), object->n_vocabulary, &n_ids);
        if (!ids)
            return NULL;
        if (n_ids > MAX_TOKENS_OF_CHUNK) {
            n_ids = 0; /* its text is tokenized whole */
            mark = UNSAFE_ALONE;
        }
        const bool is_set = set_tokens(table, slot, ids, n_ids, (unsigned)mark & ~(unsigned)AWAITS_TOKENIZER);
        free(ids);
        if (!is_set)
            return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

static PyObject *chunk_table_merged(PyObject *self, PyObject *args) {
    ChunkTableObject *object = (ChunkTableObject *)self;
    PyObject *other;
    Py_ssize_t max_slots, max_token_ids, max_long_bytes, max_chunk_bytes;
    if (!PyArg_ParseTuple(args, "O!nnnn", chunk_table_type, &other, &max_slots, &max_token_ids, &max_long_bytes,
                          &max_chunk_bytes))
        return NULL;
    if (object->n_vocabulary != ((ChunkTableObject *)other)->n_vocabulary || max_slots < 0 || max_token_ids < 0 ||
        max_long_bytes < 0 || max_chunk_bytes < 0) {
        PyErr_SetString(PyExc_ValueError, "both tables must have one vocabulary size, and limits must not be negative");
        return NULL;
    }
    const ChunkLimits limits = {(size_t)max_slots, (size_t)max_token_ids, (size_t)max_long_bytes,
                                (size_t)max_chunk_bytes};
    bool made;
    ChunkTable *merged = merge_chunks(object->table, ((ChunkTableObject *)other)->table, limits, &made);
    if (!merged)
        return PyErr_NoMemory();
    if (made)
        return chunk_table_object(merged, object->n_vocabulary);
    Py_INCREF(self);
    return self;
}

static PyMethodDef chunk_table_methods[] = {
    {"add", chunk_table_add, METH_VARARGS, NULL},
    {"get", chunk_table_get, METH_VARARGS, NULL},
    {"awaiting", chunk_table_awaiting, METH_NOARGS, NULL},
    {"fill", chunk_table_fill, METH_VARARGS, NULL},
    {"merged", chunk_table_merged, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef chunk_table_properties[] = {
    {"counts", chunk_table_counts, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot chunk_table_slots[] = {
    {Py_tp_new, (void *)chunk_table_new},
    {Py_tp_dealloc, (void *)chunk_table_dealloc},
    {Py_tp_methods, chunk_table_methods},
    {Py_tp_getset, chunk_table_properties},
    {Py_sq_length, (void *)chunk_table_length},
    {0, NULL},
};

static PyType_Spec chunk_table_spec = {
    "m2v_core.native.extension.ChunkTable", sizeof(ChunkTableObject), 0, Py_TPFLAGS_DEFAULT, chunk_table_slots};

/* ---- Subwords ---- */

typedef struct {
    PyObject_HEAD
    Subwords subwords;
    int32_t n_vocabulary;
} SubwordsObject;

/* Add a piece's bytes, or only count them if `pieces` has no room yet. */
static bool add_piece_object(Pieces *pieces, PyObject *piece, long long id, int32_t n_vocabulary, size_t *n_bytes) {
    Py_ssize_t length;
    const char *bytes = PyUnicode_AsUTF8AndSize(piece, &length);
    if (!bytes)
        return false;
    if (id < 0 || id >= n_vocabulary) {
        PyErr_SetString(PyExc_ValueError, "a piece has an id outside the vocabulary");
        return false;
    }
    *n_bytes += (size_t)length;
    if (pieces->slots)
        add_piece(pieces, (const uint8_t *)bytes, (size_t)length, (int32_t)id);
    return true;
}

/* Add the pieces of a dict {piece: id}, or of a tuple in order of their ids. */
static bool add_pieces(Pieces *pieces, PyObject *source, int32_t n_vocabulary) {
    size_t n_bytes = 0;
    const Py_ssize_t n_pieces = PyObject_Size(source);
    for (int pass = 0; pass < 2; pass++) {
        if (pass && !init_pieces(pieces, (size_t)n_pieces, n_bytes)) {
            PyErr_NoMemory();
            return false;
        }
        if (PyTuple_Check(source)) {
            for (Py_ssize_t id = 0; id < n_pieces; id++)
                if (!add_piece_object(pieces, PyTuple_GetItem(source, id), id, n_vocabulary, &n_bytes))
                    return false;
        } else {
            PyObject *piece, *id;
            for (Py_ssize_t position = 0; PyDict_Next(source, &position, &piece, &id);)
                if (!add_piece_object(pieces, piece, PyLong_AsLongLong(id), n_vocabulary, &n_bytes))
                    return false;
        }
    }
    return true;
}

static bool set_scores(Subwords *subwords, PyObject *object, int32_t n_vocabulary) {
    Py_buffer scores;
    if (!get_array(object, &scores, "d", n_vocabulary, false, "scores"))
        return false;
    double *copy = malloc((size_t)scores.len + 1);
    if (copy)
        memcpy(copy, scores.buf, (size_t)scores.len);
    else
        PyErr_NoMemory();
    subwords->scores = copy;
    PyBuffer_Release(&scores);
    return copy != NULL;
}

static bool set_merges(Subwords *subwords, PyObject *object, int32_t n_vocabulary) {
    Py_buffer merges;
    if (!get_array(object, &merges, "i", -1, false, "merges"))
        return false;
    const size_t n_merges = (size_t)merges.len / sizeof(int32_t) / 3;
    const int32_t *triples = merges.buf; /* left, right, result */
    bool is_valid = init_merges(&subwords->merges, n_merges);
    if (!is_valid)
        PyErr_NoMemory();
    for (size_t i = 0; is_valid && i < n_merges; i++) {
        for (size_t j = 0; j < 3; j++)
            is_valid &= triples[3 * i + j] >= 0 && triples[3 * i + j] < n_vocabulary;
        if (is_valid)
            add_merge(&subwords->merges, triples[3 * i], triples[3 * i + 1], (int32_t)i, triples[3 * i + 2]);
        else
            PyErr_SetString(PyExc_ValueError, "a merge contains a token id outside the vocabulary");
    }
    PyBuffer_Release(&merges);
    return is_valid;
}

static bool set_byte_ids(Subwords *subwords, PyObject *object, int32_t n_vocabulary) {
    Py_buffer ids;
    if (!get_array(object, &ids, "i", 256, false, "byte_ids"))
        return false;
    memcpy(subwords->byte_ids, ids.buf, sizeof(subwords->byte_ids));
    PyBuffer_Release(&ids);
    for (int byte = 0; byte < 256; byte++) {
        if (subwords->byte_ids[byte] >= n_vocabulary) {
            PyErr_SetString(PyExc_ValueError, "byte_ids contains a token id outside the vocabulary");
            return false;
        }
    }
    return true;
}

static PyObject *subwords_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"model",       "n_vocabulary",     "classes",     "spelling", "pieces",
                            "unknown",     "max_word_bytes",   "inner_prefix", "prefix",  "has_space",
                            "scores",      "unknown_score",    "byte_ids",     "merges",  "prefers_whole_words",
                            NULL};
    const char *model, *classes, *spelling, *inner_prefix = "", *prefix = "";
    Py_ssize_t n_classes, n_spelling, n_inner_prefix = 0, n_prefix = 0, max_word_bytes = 0;
    int n_vocabulary, unknown, has_space = 0, prefers_whole_words = 0;
    double unknown_score = 0;
    PyObject *pieces, *scores = NULL, *byte_ids = NULL, *merges = NULL;
    (void)type;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "siy#y#Oi|$ns#s#pOdOOp", names, &model, &n_vocabulary, &classes,
                                     &n_classes, &spelling, &n_spelling, &pieces, &unknown,
                                     &max_word_bytes, &inner_prefix, &n_inner_prefix, &prefix, &n_prefix, &has_space,
                                     &scores, &unknown_score, &byte_ids, &merges, &prefers_whole_words))
        return NULL;
    const bool is_unigram = strcmp(model, "Unigram") == 0, is_bpe = strcmp(model, "BPE") == 0;
    if (!(PyDict_Check(pieces) || PyTuple_Check(pieces)) || n_classes != 256 || n_spelling != 256 || n_prefix > 4 ||
        n_inner_prefix > MAX_INNER_PREFIX || max_word_bytes < 0 || unknown >= n_vocabulary ||
        is_unigram != (scores != NULL) || is_bpe != (merges != NULL) || is_bpe != (byte_ids != NULL)) {
        PyErr_SetString(PyExc_ValueError, "the arguments do not form a valid subword model");
        return NULL;
    }
    SubwordsObject *object = PyObject_New(SubwordsObject, subwords_type);
    if (!object)
        return NULL;
    Subwords *subwords = &object->subwords;
    init_subwords(subwords);
    object->n_vocabulary = n_vocabulary;
    subwords->model = is_unigram ? UNIGRAM : is_bpe ? BPE : WORDPIECE;
    memcpy(subwords->classes, classes, 256);
    memcpy(subwords->spelling, spelling, 256);
    memcpy(subwords->prefix, prefix, (size_t)n_prefix);
    subwords->prefix_bytes = (size_t)n_prefix;
    memcpy(subwords->inner_prefix, inner_prefix, (size_t)n_inner_prefix);
    subwords->inner_prefix_bytes = (size_t)n_inner_prefix;
    subwords->unknown = unknown;
    subwords->max_word_bytes = (size_t)max_word_bytes;
    subwords->has_space = has_space;
    subwords->unknown_score = unknown_score;
    subwords->prefers_whole_words = prefers_whole_words;
    if (!add_pieces(&subwords->pieces, pieces, n_vocabulary) ||
        (is_unigram && !set_scores(subwords, scores, n_vocabulary)) ||
        (is_bpe && (!set_byte_ids(subwords, byte_ids, n_vocabulary) || !set_merges(subwords, merges, n_vocabulary)))) {
        Py_DECREF(object);
        return NULL;
    }
    return (PyObject *)object;
}

static void subwords_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    free_subwords(&((SubwordsObject *)self)->subwords);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *subwords_ids(PyObject *self, PyObject *args) {
    const char *bytes;
    Py_ssize_t length;
    if (!PyArg_ParseTuple(args, "y#", &bytes, &length))
        return NULL;
    int32_t ids[MAX_SUBWORD_IDS];
    const int n_ids = subword_ids(&((SubwordsObject *)self)->subwords, (const uint8_t *)bytes, (size_t)length, ids);
    if (n_ids < 0)
        Py_RETURN_NONE;
    return list_of_ids(ids, (size_t)n_ids);
}

static PyMethodDef subwords_methods[] = {{"ids", subwords_ids, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

static PyType_Slot subwords_slots[] = {
    {Py_tp_new, (void *)subwords_new},
    {Py_tp_dealloc, (void *)subwords_dealloc},
    {Py_tp_methods, subwords_methods},
    {0, NULL},
};

static PyType_Spec subwords_spec = {
    "m2v_core.native.extension.Subwords", sizeof(SubwordsObject), 0, Py_TPFLAGS_DEFAULT, subwords_slots};

/* ---- Encoder ---- */

typedef struct {
    PyObject_HEAD
    Table table;
    Splitting splitting;
    int32_t unknown, n_vocabulary;
    Py_buffer rows, mapping, weights;
} EncoderObject;

static PyObject *encoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"token_embeddings", "mapping",       "weights",       "n_vocabulary", "unknown",
                            "carries_space",    "cuts_at_lines", "instructions",  NULL};
    PyObject *rows, *mapping, *weights;
    int n_vocabulary, unknown, carries_space, cuts_at_lines;
    const char *instructions = row_kernels()->name;
    (void)type;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOiipp|s", names, &rows, &mapping, &weights, &n_vocabulary,
                                     &unknown, &carries_space, &cuts_at_lines, &instructions))
        return NULL;
    const RowKernels *kernels = row_kernels_named(instructions);
    if (!kernels || n_vocabulary < 0 || unknown < -1 || unknown >= n_vocabulary) {
        PyErr_SetString(PyExc_ValueError, "unknown must be a token or -1, and instructions one of available_instructions");
        return NULL;
    }
    EncoderObject *self = PyObject_New(EncoderObject, encoder_type);
    if (!self)
        return NULL;
    self->rows.obj = self->mapping.obj = self->weights.obj = NULL;
    self->table = (Table){.kernels = kernels};
    self->splitting = (Splitting){carries_space, cuts_at_lines};
    self->n_vocabulary = n_vocabulary;
    self->unknown = unknown;
    if (!get_array(rows, &self->rows, "feb", -1, false, "token_embeddings") ||
        (mapping != Py_None && !get_array(mapping, &self->mapping, "i", n_vocabulary, false, "mapping")) ||
        (weights != Py_None && !get_array(weights, &self->weights, "f", n_vocabulary, false, "weights")))
        goto failed;
    if (self->rows.ndim != 2 || self->rows.shape[1] < 1 ||
        (mapping == Py_None && self->rows.shape[0] < n_vocabulary)) {
        PyErr_SetString(PyExc_ValueError, "token_embeddings must be of shape (n_rows, dim), with a row for each token");
        goto failed;
    }
    const char format = self->rows.format[0];
    self->table.rows = self->rows.buf;
    self->table.type = format == 'f' ? FLOAT32 : format == 'e' ? FLOAT16 : INT8;
    self->table.n_rows = (size_t)self->rows.shape[0];
    self->table.dim = (size_t)self->rows.shape[1];
    self->table.mapping = self->mapping.obj ? self->mapping.buf : NULL;
    self->table.weights = self->weights.obj ? self->weights.buf : NULL;
    return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

static void encoder_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    EncoderObject *self = (EncoderObject *)object;
    release(&self->rows);
    release(&self->mapping);
    release(&self->weights);
    PyObject_Free(object);
    Py_DECREF(type);
}

/* Borrow the UTF-8 of a list's texts, truncated to `max_characters` unless negative. The caller frees the result. */
static Text *borrowed_texts(PyObject *list, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t max_characters,
                            size_t *n_bytes) {
    if (!PyList_Check(list) || start < 0 || stop < start || stop > PyList_Size(list)) {
        PyErr_SetString(PyExc_ValueError, "texts must be a list that has items start to stop");
        return NULL;
    }
    Text *texts = malloc(((size_t)(stop - start) + 1) * sizeof(Text));
    if (!texts) {
        PyErr_NoMemory();
        return NULL;
    }
    *n_bytes = 0;
    for (Py_ssize_t i = start; i < stop; i++) {
        PyObject *text = PyList_GetItem(list, i);
        Py_ssize_t length;
        const char *bytes = PyUnicode_AsUTF8AndSize(text, &length);
        if (!bytes) {
            free(texts);
            return NULL;
        }
        if (max_characters >= 0 && length > max_characters && PyUnicode_GetLength(text) > max_characters) {
            Py_ssize_t place = max_characters;
            if (PyUnicode_GetLength(text) != length) {
                Py_ssize_t n_characters = 0;
                for (place = 0; place < length; place++) {
                    n_characters += (bytes[place] & 0xC0) != 0x80;
                    if (n_characters > max_characters)
                        break;
                }
            }
            length = place;
        }
        texts[i - start] = (Text){(const uint8_t *)bytes, (size_t)length};
        *n_bytes += (size_t)length;
    }
    return texts;
}

/* State shared by the calls that read texts. */
typedef struct {
    Reading reading;
    Text *texts;
    Py_ssize_t n_texts;
    size_t n_bytes;
    uint8_t *outcomes;
    PyObject *extra; /* the argument, or NULL */
    int32_t n_vocabulary;
} Call;

enum { N_CALL_ARGUMENTS = 8 };

/* Arguments: texts, start, stop, max_tokens, max_characters, known, extra or None, subwords or None. */
static bool begin_call(EncoderObject *self, Call *call, PyObject *const *args) {
    long long start, stop, max_tokens, max_characters;
    *call = (Call){.n_vocabulary = self->n_vocabulary};
    if (!get_number(args[1], 0, PY_SSIZE_T_MAX, "start", &start) ||
        !get_number(args[2], 0, PY_SSIZE_T_MAX, "stop", &stop) ||
        !get_number(args[3], 1, PY_SSIZE_T_MAX, "max_tokens", &max_tokens) ||
        !get_number(args[4], 0, PY_SSIZE_T_MAX, "max_characters", &max_characters))
        return false;
    PyObject *known = args[5], *extra = args[6], *subwords = args[7];
    if (Py_TYPE(known) != chunk_table_type || (extra != Py_None && Py_TYPE(extra) != chunk_table_type) ||
        (subwords != Py_None && Py_TYPE(subwords) != subwords_type)) {
        PyErr_SetString(PyExc_TypeError, "known and extra must be of class ChunkTable, and subwords of class Subwords");
        return false;
    }
    if (((ChunkTableObject *)known)->n_vocabulary != self->n_vocabulary ||
        (extra != Py_None && ((ChunkTableObject *)extra)->n_vocabulary != self->n_vocabulary) ||
        (subwords != Py_None && ((SubwordsObject *)subwords)->n_vocabulary != self->n_vocabulary)) {
        PyErr_SetString(PyExc_ValueError, "the tables have another vocabulary size");
        return false;
    }
    call->texts = borrowed_texts(args[0], (Py_ssize_t)start, (Py_ssize_t)stop, (Py_ssize_t)max_characters,
                                 &call->n_bytes);
    if (!call->texts)
        return false;
    call->n_texts = (Py_ssize_t)(stop - start);
    call->outcomes = malloc((size_t)call->n_texts + 1);
    if (!call->outcomes) {
        free(call->texts);
        PyErr_NoMemory();
        return false;
    }
    call->reading = (Reading){
        .splitting = self->splitting,
        .known = ((ChunkTableObject *)known)->table,
        .subwords = subwords == Py_None ? NULL : &((SubwordsObject *)subwords)->subwords,
        .extra = extra == Py_None ? NULL : ((ChunkTableObject *)extra)->table,
        .max_tokens = (size_t)max_tokens,
        .unknown = self->unknown,
    };
    call->extra = extra == Py_None ? NULL : extra;
    return true;
}

static PyObject *list_of_places(const uint8_t *outcomes, Py_ssize_t n, uint8_t outcome) {
    PyObject *places = PyList_New(0);
    for (Py_ssize_t i = 0; places && i < n; i++) {
        if (outcomes[i] != outcome)
            continue;
        PyObject *place = PyLong_FromSsize_t(i);
        if (!place || PyList_Append(places, place) < 0)
            Py_CLEAR(places);
        Py_XDECREF(place);
    }
    return places;
}

/* Free the resources of the call and return (extra or None, indices of missing texts, indices of unsafe texts),
   relative to the first text; None if all texts are done and no chunk was new; NULL with an exception. */
static PyObject *end_call(Call *call, Outcome worst) {
    PyObject *result = NULL, *extra = call->extra;
    Py_XINCREF(extra);
    if (!extra && call->reading.extra)
        extra = chunk_table_object(call->reading.extra, call->n_vocabulary);
    const bool has_extra = call->reading.extra != NULL;
    if (worst == NO_MEMORY) {
        PyErr_NoMemory();
    } else if (worst == BAD_ROW) {
        PyErr_SetString(PyExc_ValueError, "the token mapping points outside the table");
    } else if (worst == DONE && !has_extra) {
        result = Py_None;
        Py_INCREF(result);
    } else if (!has_extra || extra) {
        PyObject *missing = list_of_places(call->outcomes, call->n_texts, MISSING);
        PyObject *unsafe = list_of_places(call->outcomes, call->n_texts, UNSAFE);
        if (missing && unsafe)
            result = PyTuple_Pack(3, extra ? extra : Py_None, missing, unsafe);
        Py_XDECREF(missing);
        Py_XDECREF(unsafe);
    }
    Py_XDECREF(extra);
    free(call->texts);
    free(call->outcomes);
    free(call->reading.ids);
    return result;
}

static PyObject *encoder_pool(PyObject *object, PyObject *const *args, Py_ssize_t n_args) {
    EncoderObject *self = (EncoderObject *)object;
    const size_t dim = self->table.dim;
    Call call;
    if (!check_arguments(n_args, N_CALL_ARGUMENTS + 2, "pool") || !begin_call(self, &call, args))
        return NULL;
    const int normalize = PyObject_IsTrue(args[N_CALL_ARGUMENTS]);
    Py_buffer embeddings = {0};
    double *wide = malloc(dim * sizeof(double));
    Outcome worst = wide ? DONE : NO_MEMORY;
    if (get_array(args[N_CALL_ARGUMENTS + 1], &embeddings, "f", call.n_texts * (Py_ssize_t)dim, true, "embeddings") &&
        worst == DONE) {
        PyThreadState *state = call.n_bytes > BYTES_WITH_GIL ? PyEval_SaveThread() : NULL;
        worst = embed_texts(&call.reading, &self->table, call.texts, (size_t)call.n_texts, normalize, wide,
                            embeddings.buf, call.outcomes);
        if (state)
            PyEval_RestoreThread(state);
    }
    free(wide);
    release(&embeddings);
    PyObject *result = end_call(&call, worst);
    if (PyErr_Occurred())
        Py_CLEAR(result);
    return result;
}

static PyObject *encoder_token_ids(PyObject *object, PyObject *const *args, Py_ssize_t n_args) {
    EncoderObject *self = (EncoderObject *)object;
    Call call;
    if (!check_arguments(n_args, N_CALL_ARGUMENTS, "token_ids") || !begin_call(self, &call, args))
        return NULL;
    size_t *ends = malloc(((size_t)call.n_texts + 1) * sizeof(size_t));
    Outcome worst = ends ? DONE : NO_MEMORY;
    PyThreadState *state = call.n_bytes > BYTES_WITH_GIL ? PyEval_SaveThread() : NULL;
    if (ends)
        worst = read_texts(&call.reading, call.texts, (size_t)call.n_texts, call.outcomes, ends);
    if (state)
        PyEval_RestoreThread(state);
    PyObject *found = worst < NO_MEMORY ? PyList_New(call.n_texts) : NULL;
    for (Py_ssize_t i = 0; found && i < call.n_texts; i++) {
        const size_t start = i ? ends[i - 1] : 0;
        PyObject *ids = list_of_ids(call.reading.ids + start, ends[i] - start);
        if (!ids)
            Py_CLEAR(found);
        else
            PyList_SetItem(found, i, ids);
    }
    free(ends);
    PyObject *rest = end_call(&call, worst);
    if (!found || !rest) {
        Py_XDECREF(found);
        Py_XDECREF(rest);
        return NULL;
    }
    return Py_BuildValue("(NN)", found, rest);
}

static PyMethodDef encoder_methods[] = {
    {"pool", (PyCFunction)(void (*)(void))encoder_pool, METH_FASTCALL, NULL},
    {"token_ids", (PyCFunction)(void (*)(void))encoder_token_ids, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot encoder_slots[] = {
    {Py_tp_new, (void *)encoder_new},
    {Py_tp_dealloc, (void *)encoder_dealloc},
    {Py_tp_methods, encoder_methods},
    {0, NULL},
};

static PyType_Spec encoder_spec = {
    "m2v_core.native.extension.Encoder", sizeof(EncoderObject), 0, Py_TPFLAGS_DEFAULT, encoder_slots};

/* ---- Functions ---- */

static PyObject *parts(PyObject *module, PyObject *args) {
    PyObject *texts;
    Py_ssize_t max_characters, n_parts, min_part, max_part, max_texts;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!nnnnn", &PyList_Type, &texts, &max_characters, &n_parts, &min_part, &max_part,
                          &max_texts))
        return NULL;
    const Py_ssize_t n_texts = PyList_Size(texts);
    Py_ssize_t n_characters = 0, start = 0;
    for (Py_ssize_t i = 0; i < n_texts; i++) {
        const Py_ssize_t length = PyUnicode_GetLength(PyList_GetItem(texts, i));
        if (length < 0)
            return NULL;
        n_characters += length < max_characters ? length : max_characters;
    }
    Py_ssize_t characters_per_part = n_parts > 0 ? n_characters / n_parts + 1 : n_characters;
    if (characters_per_part > max_part)
        characters_per_part = max_part;
    if (characters_per_part < min_part)
        characters_per_part = min_part;
    PyObject *ends = PyList_New(0);
    n_characters = 0;
    for (Py_ssize_t i = 0; ends && i < n_texts; i++) {
        const Py_ssize_t length = PyUnicode_GetLength(PyList_GetItem(texts, i));
        n_characters += length < max_characters ? length : max_characters;
        if (n_characters >= characters_per_part || i + 1 - start >= max_texts || i + 1 == n_texts) {
            PyObject *end = PyLong_FromSsize_t(i + 1);
            if (!end || PyList_Append(ends, end) < 0)
                Py_CLEAR(ends);
            Py_XDECREF(end);
            n_characters = 0;
            start = i + 1;
        }
    }
    return ends;
}

static PyObject *multiply_by_gram(PyObject *module, PyObject *args) {
    PyObject *objects[5];
    Py_buffer views[5] = {{0}};
    static const char *names[] = {"starts", "columns", "values", "table", "products"};
    static const char *formats[] = {"i", "i", "f", "f", "f"};
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOOO", &objects[0], &objects[1], &objects[2], &objects[3], &objects[4]))
        return NULL;
    for (int i = 0; i < 5; i++)
        if (!get_array(objects[i], &views[i], formats[i], -1, i == 4, names[i]))
            goto end;
    const int32_t *starts = views[0].buf, *columns = views[1].buf;
    const size_t n_starts = (size_t)views[0].len / sizeof(int32_t), n_values = (size_t)views[2].len / sizeof(float);
    bool is_valid = views[3].ndim == 2 && views[4].ndim == 2 && views[3].shape[0] == views[4].shape[0] &&
                    views[3].shape[1] == views[4].shape[1] && n_starts > 0 && views[1].len == views[2].len &&
                    starts[0] == 0 && (size_t)starts[n_starts - 1] == n_values;
    for (size_t i = 1; is_valid && i < n_starts; i++)
        is_valid = starts[i - 1] <= starts[i];
    for (size_t i = 0; is_valid && i < n_values; i++)
        is_valid = columns[i] >= 0 && columns[i] < views[3].shape[0];
    if (!is_valid) {
        PyErr_SetString(PyExc_ValueError, "the arrays must be a sparse matrix (n_rows, n_columns) and two tables "
                                          "(n_columns, dim)");
        goto end;
    }
    const size_t dim = (size_t)views[3].shape[1];
    float *row = malloc((dim + 1) * sizeof(float));
    if (!row) {
        PyErr_NoMemory();
        goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    row_kernels()->multiply_by_gram(starts, columns, views[2].buf, n_starts - 1, (size_t)views[3].shape[0],
                                    views[3].buf, dim, views[4].buf, row);
    Py_END_ALLOW_THREADS
    free(row);
    result = Py_None;
    Py_INCREF(result);
end:
    for (int i = 0; i < 5; i++)
        release(&views[i]);
    return result;
}

static PyMethodDef functions[] = {
    {"parts", parts, METH_VARARGS, NULL},
    {"multiply_by_gram", multiply_by_gram, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type) {
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *type ? PyModule_AddType(module, *type) : -1;
}

static int exec_module(PyObject *module) {
    uint64_t seed = 0;
    PyObject *os = PyImport_ImportModule("os"), *random = os ? PyObject_CallMethod(os, "urandom", "i", 8) : NULL;
    Py_XDECREF(os);
    if (!random)
        return -1;
    memcpy(&seed, PyBytes_AsString(random), sizeof(seed));
    Py_DECREF(random);
    chunk_hash_seed = seed;
    if (add_type(module, &chunk_table_spec, &chunk_table_type) < 0 ||
        add_type(module, &subwords_spec, &subwords_type) < 0 || add_type(module, &encoder_spec, &encoder_type) < 0)
        return -1;
    const RowKernels *found[MAX_ROW_KERNELS];
    const Py_ssize_t n_found = (Py_ssize_t)every_row_kernels(found);
    PyObject *available = PyTuple_New(n_found);
    for (Py_ssize_t i = 0; available && i < n_found; i++) {
        PyObject *name = PyUnicode_FromString(found[i]->name);
        if (!name)
            Py_CLEAR(available);
        else
            PyTuple_SetItem(available, i, name);
    }
    const int status = available ? PyModule_AddObjectRef(module, "available_instructions", available) : -1;
    Py_XDECREF(available);
    return status;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, (void *)exec_module}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "extension", NULL, 0, functions, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_extension(void) { return PyModuleDef_Init(&definition); }
