// SPDX-License-Identifier: Apache-2.0
/*
 * The one binding: libbpf and bpf(2) for Python, thin. File descriptors are plain ints that the
 * caller closes; errors are OSError with the kernel's errno. All policy (which program, which map,
 * what to do when) is in Python.
 *
 * Object   an opened, then loaded, BPF object
 * Ring     a ring buffer's mapping; drain() copies what is there
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- errors ---- */

static PyObject *fail(int err, const char *what)
{
	PyObject *args = Py_BuildValue("is", err < 0 ? -err : err, what);

	if (args) {
		PyErr_SetObject(PyExc_OSError, args);
		Py_DECREF(args);
	}
	return NULL;
}

/* libbpf writes here while the GIL is held: one load at a time. */
static char messages[1 << 16];
static size_t messages_size;

static int collect(enum libbpf_print_level level, const char *format, va_list args)
{
	int n;

	if (level == LIBBPF_DEBUG || messages_size >= sizeof(messages) - 1)
		return 0;
	n = vsnprintf(messages + messages_size, sizeof(messages) - messages_size, format, args);
	if (n > 0) {
		messages_size += (size_t)n;
		if (messages_size >= sizeof(messages))
			messages_size = sizeof(messages) - 1;
	}
	return 0;
}

static PyObject *take_messages(void)
{
	PyObject *text = PyUnicode_DecodeUTF8(messages, (Py_ssize_t)messages_size, "replace");

	messages_size = 0;
	return text;
}

/* ---- Object ---- */

typedef struct {
	PyObject_HEAD struct bpf_object *object;
} Object;

static void object_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	bpf_object__close(((Object *)self)->object);
	release(self);
	Py_DECREF(type);
}

static struct bpf_object *opened(PyObject *self)
{
	struct bpf_object *object = ((Object *)self)->object;

	if (!object)
		PyErr_SetString(PyExc_ValueError, "the object is closed");
	return object;
}

static struct bpf_program *program_of(PyObject *self, const char *name)
{
	struct bpf_object *object = opened(self);
	struct bpf_program *program =
	    object ? bpf_object__find_program_by_name(object, name) : NULL;

	if (object && !program)
		PyErr_Format(PyExc_KeyError, "no program %s", name);
	return program;
}

static struct bpf_map *map_of(PyObject *self, const char *name)
{
	struct bpf_object *object = opened(self);
	struct bpf_map *map = object ? bpf_object__find_map_by_name(object, name) : NULL;

	if (object && !map)
		PyErr_Format(PyExc_KeyError, "no map %s", name);
	return map;
}

static int append(PyObject *list, PyObject *item)
{
	int err = item ? PyList_Append(list, item) : -1;

	Py_XDECREF(item);
	return err;
}

static PyObject *object_programs(PyObject *self, PyObject *unused)
{
	struct bpf_object *object = opened(self);
	PyObject *list = object ? PyList_New(0) : NULL;
	struct bpf_program *program;

	(void)unused;
	if (!list)
		return NULL;
	bpf_object__for_each_program(program, object)
	{
		if (append(list, Py_BuildValue("ss", bpf_program__name(program),
					       bpf_program__section_name(program)))) {
			Py_DECREF(list);
			return NULL;
		}
	}
	return list;
}

static PyObject *object_maps(PyObject *self, PyObject *unused)
{
	struct bpf_object *object = opened(self);
	PyObject *list = object ? PyList_New(0) : NULL;
	struct bpf_map *map;

	(void)unused;
	if (!list)
		return NULL;
	bpf_object__for_each_map(map, object)
	{
		if (append(list, Py_BuildValue("siIII", bpf_map__name(map), (int)bpf_map__type(map),
					       bpf_map__key_size(map), bpf_map__value_size(map),
					       bpf_map__max_entries(map)))) {
			Py_DECREF(list);
			return NULL;
		}
	}
	return list;
}

static PyObject *object_set_initial(PyObject *self, PyObject *args)
{
	const char *name, *data;
	Py_ssize_t size, offset;
	struct bpf_map *map;
	size_t whole = 0;
	char *value;

	if (!PyArg_ParseTuple(args, "sny#", &name, &offset, &data, &size))
		return NULL;
	map = map_of(self, name);
	if (!map)
		return NULL;
	value = (char *)bpf_map__initial_value(map, &whole);
	if (!value || offset < 0 || (size_t)(offset + size) > whole) {
		PyErr_Format(PyExc_ValueError, "map %s has no %zd bytes at %zd", name, size,
			     offset);
		return NULL;
	}
	memcpy(value + offset, data, (size_t)size);
	Py_RETURN_NONE;
}

static PyObject *object_set_max_entries(PyObject *self, PyObject *args)
{
	const char *name;
	unsigned int entries;
	struct bpf_map *map;
	int err;

	if (!PyArg_ParseTuple(args, "sI", &name, &entries))
		return NULL;
	map = map_of(self, name);
	if (!map)
		return NULL;
	err = bpf_map__set_max_entries(map, entries);
	if (err)
		return fail(err, name);
	Py_RETURN_NONE;
}

static PyObject *object_reuse_map(PyObject *self, PyObject *args)
{
	const char *name;
	struct bpf_map *map;
	int fd, err;

	if (!PyArg_ParseTuple(args, "si", &name, &fd))
		return NULL;
	map = map_of(self, name);
	if (!map)
		return NULL;
	err = bpf_map__reuse_fd(map, fd);
	if (err)
		return fail(err, name);
	Py_RETURN_NONE;
}

static PyObject *object_set_autoload(PyObject *self, PyObject *args)
{
	struct bpf_program *program;
	const char *name;
	int on, err;

	if (!PyArg_ParseTuple(args, "sp", &name, &on))
		return NULL;
	program = program_of(self, name);
	if (!program)
		return NULL;
	err = bpf_program__set_autoload(program, on);
	if (err)
		return fail(err, name);
	Py_RETURN_NONE;
}

static PyObject *object_load(PyObject *self, PyObject *unused)
{
	struct bpf_object *object = opened(self);
	PyObject *text, *args;
	int err;

	(void)unused;
	if (!object)
		return NULL;
	messages_size = 0;
	err = bpf_object__load(object);
	text = take_messages();
	if (!text || !err)
		return text;
	args = Py_BuildValue("iN", -err, text);
	if (args) {
		PyErr_SetObject(PyExc_OSError, args);
		Py_DECREF(args);
	}
	return NULL;
}

static PyObject *object_program_fd(PyObject *self, PyObject *args)
{
	struct bpf_program *program;
	const char *name;
	int fd;

	if (!PyArg_ParseTuple(args, "s", &name))
		return NULL;
	program = program_of(self, name);
	if (!program)
		return NULL;
	fd = bpf_program__fd(program);
	return fd < 0 ? fail(fd, name) : PyLong_FromLong(fd);
}

static PyObject *object_map_fd(PyObject *self, PyObject *args)
{
	struct bpf_map *map;
	const char *name;
	int fd;

	if (!PyArg_ParseTuple(args, "s", &name))
		return NULL;
	map = map_of(self, name);
	if (!map)
		return NULL;
	fd = bpf_map__fd(map);
	return fd < 0 ? fail(fd, name) : PyLong_FromLong(fd);
}

static PyObject *object_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	bpf_object__close(((Object *)self)->object);
	((Object *)self)->object = NULL;
	Py_RETURN_NONE;
}

static PyMethodDef object_methods[] = {
    {"programs", object_programs, METH_NOARGS, NULL},
    {"maps", object_maps, METH_NOARGS, NULL},
    {"set_initial", object_set_initial, METH_VARARGS, NULL},
    {"set_max_entries", object_set_max_entries, METH_VARARGS, NULL},
    {"reuse_map", object_reuse_map, METH_VARARGS, NULL},
    {"set_autoload", object_set_autoload, METH_VARARGS, NULL},
    {"load", object_load, METH_NOARGS, NULL},
    {"program_fd", object_program_fd, METH_VARARGS, NULL},
    {"map_fd", object_map_fd, METH_VARARGS, NULL},
    {"close", object_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot object_slots[] = {
    {Py_tp_dealloc, object_dealloc},
    {Py_tp_methods, object_methods},
    {0, NULL},
};

static PyType_Spec object_spec = {
    .name = "fathom.kernel._libbpf.Object",
    .basicsize = sizeof(Object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = object_slots,
};

static PyTypeObject *object_type;

static PyObject *module_open(PyObject *module, PyObject *args)
{
	struct bpf_object *object;
	const char *path;
	Object *self;

	(void)module;
	if (!PyArg_ParseTuple(args, "s", &path))
		return NULL;
	messages_size = 0;
	object = bpf_object__open(path);
	if (!object)
		return fail(errno, path);
	self = PyObject_New(Object, object_type);
	if (!self) {
		bpf_object__close(object);
		return NULL;
	}
	self->object = object;
	return (PyObject *)self;
}

/* ---- attaching: all give the descriptor of a link, which is gone when the last copy is closed
 * ---- */

static PyObject *module_attach_raw(PyObject *module, PyObject *args)
{
	const char *name;
	int program, fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "iz", &program, &name))
		return NULL;
	fd = bpf_raw_tracepoint_open(name, program);
	return fd < 0 ? fail(errno, name ? name : "tp_btf") : PyLong_FromLong(fd);
}

static PyObject *module_attach_link(PyObject *module, PyObject *args)
{
	int program, target, type, fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "iii", &program, &target, &type))
		return NULL;
	fd = bpf_link_create(program, target, (enum bpf_attach_type)type, NULL);
	return fd < 0 ? fail(errno, "bpf_link_create") : PyLong_FromLong(fd);
}

/* Runs an iterator to its end and gives all that it wrote. */
static PyObject *module_read_iterator(PyObject *module, PyObject *args)
{
	size_t size = 0, room = 1 << 16;
	int link, fd, err = 0;
	PyObject *bytes;
	char *buffer;

	(void)module;
	if (!PyArg_ParseTuple(args, "i", &link))
		return NULL;
	fd = bpf_iter_create(link);
	if (fd < 0)
		return fail(errno, "bpf_iter_create");
	buffer = malloc(room);
	Py_BEGIN_ALLOW_THREADS;
	while (buffer) {
		ssize_t n = read(fd, buffer + size, room - size);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0) {
			err = n < 0 ? errno : 0;
			break;
		}
		size += (size_t)n;
		if (room - size < 1 << 15) {
			char *larger = realloc(buffer, room * 2);

			if (!larger) {
				err = ENOMEM;
				break;
			}
			buffer = larger;
			room *= 2;
		}
	}
	close(fd);
	Py_END_ALLOW_THREADS;
	if (!buffer)
		return PyErr_NoMemory();
	bytes = err ? fail(err, "read of an iterator")
		    : PyBytes_FromStringAndSize(buffer, (Py_ssize_t)size);
	free(buffer);
	return bytes;
}

/* ---- maps ---- */

static PyObject *module_map_lookup(PyObject *module, PyObject *args)
{
	Py_ssize_t key_size, value_size;
	PyObject *value;
	const char *key;
	int fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "iy#n", &fd, &key, &key_size, &value_size))
		return NULL;
	value = PyBytes_FromStringAndSize(NULL, value_size);
	if (!value)
		return NULL;
	if (bpf_map_lookup_elem(fd, key, PyBytes_AsString(value))) {
		Py_DECREF(value);
		if (errno == ENOENT)
			Py_RETURN_NONE;
		return fail(errno, "map lookup");
	}
	return value;
}

static PyObject *module_map_update(PyObject *module, PyObject *args)
{
	Py_ssize_t key_size, value_size;
	const char *key, *value;
	int fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "iy#y#", &fd, &key, &key_size, &value, &value_size))
		return NULL;
	if (bpf_map_update_elem(fd, key, value, BPF_ANY))
		return fail(errno, "map update");
	Py_RETURN_NONE;
}

static PyObject *module_map_delete(PyObject *module, PyObject *args)
{
	Py_ssize_t key_size;
	const char *key;
	int fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "iy#", &fd, &key, &key_size))
		return NULL;
	if (bpf_map_delete_elem(fd, key) && errno != ENOENT)
		return fail(errno, "map delete");
	Py_RETURN_NONE;
}

/*
 * read_map(fd, keys, values, key_size, value_size, delete) -> count: all entries of a hash, by
 * batches, into two writable buffers that hold max_entries; value_size is that of all CPUs
 * together. Deleting is right only while nothing writes.
 */
static PyObject *module_read_map(PyObject *module, PyObject *args)
{
	uint32_t total = 0, room, chunk;
	Py_ssize_t key_size, value_size;
	Py_buffer keys, values;
	int fd, remove, err = 0;
	uint64_t from = 0, to = 0;
	void *at = NULL;

	(void)module;
	if (!PyArg_ParseTuple(args, "iw*w*nnp", &fd, &keys, &values, &key_size, &value_size,
			      &remove))
		return NULL;
	room = (uint32_t)(keys.len / key_size);
	if ((Py_ssize_t)room > values.len / value_size)
		room = (uint32_t)(values.len / value_size);
	chunk = room < 4096 ? room : 4096;
	Py_BEGIN_ALLOW_THREADS;
	while (total < room) {
		uint32_t count = room - total < chunk ? room - total : chunk;
		char *key = (char *)keys.buf + (size_t)total * (size_t)key_size;
		char *value = (char *)values.buf + (size_t)total * (size_t)value_size;

		err = remove
			  ? bpf_map_lookup_and_delete_batch(fd, at, &to, key, value, &count, NULL)
			  : bpf_map_lookup_batch(fd, at, &to, key, value, &count, NULL);
		err = err ? errno : 0;
		/* A bucket held more than the chunk: nothing was read, ask for more at once. */
		if (err == ENOSPC && chunk < room) {
			chunk = chunk * 2 < room ? chunk * 2 : room;
			continue;
		}
		if (err && err != ENOENT)
			break;
		total += count;
		if (err == ENOENT)
			break;
		from = to;
		at = &from;
	}
	Py_END_ALLOW_THREADS;
	PyBuffer_Release(&keys);
	PyBuffer_Release(&values);
	if (err && err != ENOENT)
		return fail(err, "map read");
	return PyLong_FromUnsignedLong(total);
}

/* ---- Ring ---- */

typedef struct {
	PyObject_HEAD uint64_t *consumer, *producer;
	char *data;
	size_t size;
} Ring;

static void ring_unmap(Ring *ring)
{
	long page = sysconf(_SC_PAGESIZE);

	if (ring->consumer)
		munmap(ring->consumer, (size_t)page);
	if (ring->producer)
		munmap(ring->producer, (size_t)page + ring->size);
	ring->consumer = NULL;
	ring->producer = NULL;
}

static void ring_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	ring_unmap((Ring *)self);
	release(self);
	Py_DECREF(type);
}

/* The data is mapped once, to be resident once: a record that goes over the end is copied in two
 * parts. A header never does: positions are multiples of 8. */
static void ring_copy(const Ring *ring, char *to, uint64_t position, size_t size)
{
	size_t at = position & (ring->size - 1), first = ring->size - at;

	if (size <= first) {
		memcpy(to, ring->data + at, size);
	} else {
		memcpy(to, ring->data + at, first);
		memcpy(to + first, ring->data, size - first);
	}
}

/* used() -> bytes that were produced and not consumed */
static PyObject *ring_used(PyObject *self, PyObject *unused)
{
	Ring *ring = (Ring *)self;

	(void)unused;
	if (!ring->consumer) {
		PyErr_SetString(PyExc_ValueError, "the ring is closed");
		return NULL;
	}
	return PyLong_FromUnsignedLongLong(__atomic_load_n(ring->producer, __ATOMIC_ACQUIRE) -
					   *ring->consumer);
}

/* Least and greatest of some columns of 64 bits. */
#define MAX_SPANS 4

struct spans {
	Py_ssize_t count, offset[MAX_SPANS];
	uint64_t least[MAX_SPANS], greatest[MAX_SPANS];
};

static int read_spans(struct spans *spans, PyObject *offsets, Py_ssize_t record_size)
{
	Py_ssize_t i;

	spans->count = PyTuple_Size(offsets);
	if (spans->count > MAX_SPANS)
		return -1;
	for (i = 0; i < spans->count; i++) {
		spans->offset[i] = PyLong_AsSsize_t(PyTuple_GetItem(offsets, i));
		spans->least[i] = UINT64_MAX;
		spans->greatest[i] = 0;
		if (spans->offset[i] < 0 || spans->offset[i] > record_size - 8)
			return -1;
	}
	return 0;
}

static void add_to_spans(struct spans *spans, const char *record)
{
	Py_ssize_t i;

	for (i = 0; i < spans->count; i++) {
		uint64_t word;

		memcpy(&word, record + spans->offset[i], 8);
		if (word < spans->least[i])
			spans->least[i] = word;
		if (word > spans->greatest[i])
			spans->greatest[i] = word;
	}
}

static PyObject *told_spans(const struct spans *spans)
{
	PyObject *told = PyTuple_New(spans->count);
	Py_ssize_t i;

	for (i = 0; told && i < spans->count; i++) {
		PyObject *pair = Py_BuildValue("KK", (unsigned long long)spans->least[i],
					       (unsigned long long)spans->greatest[i]);

		if (!pair || PyTuple_SetItem(told, i, pair)) {
			Py_DECREF(told);
			return NULL;
		}
	}
	return told;
}

/*
 * drain(buffer, record_size, offsets) -> (records, ((least, greatest), ...)): copies the payload of
 * every record that was committed when the call began, up to what the buffer holds, and looks at
 * these columns of 64 bits while they are in the CPU's cache. One look at the producer's position:
 * chasing it costs a core.
 */
static PyObject *ring_drain(PyObject *self, PyObject *args)
{
	Ring *ring = (Ring *)self;
	uint64_t at, end, mask = ring->size - 1;
	Py_ssize_t record_size, count = 0, room;
	PyObject *offsets;
	struct spans spans;
	int strange = 0;
	Py_buffer out;

	if (!PyArg_ParseTuple(args, "w*nO!", &out, &record_size, &PyTuple_Type, &offsets))
		return NULL;
	if (!ring->consumer || record_size <= 0 || read_spans(&spans, offsets, record_size)) {
		PyBuffer_Release(&out);
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_ValueError,
					"the ring is closed, or the record has no such columns");
		return NULL;
	}
	room = out.len / record_size;
	Py_BEGIN_ALLOW_THREADS;
	at = *ring->consumer; /* ours alone */
	end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
	while (at < end) {
		uint32_t *header = (uint32_t *)(ring->data + (at & mask));
		uint32_t word = __atomic_load_n(header, __ATOMIC_ACQUIRE);
		uint32_t length = word & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

		if (word & BPF_RINGBUF_BUSY_BIT)
			break;
		if (!(word & BPF_RINGBUF_DISCARD_BIT)) {
			if (count == room)
				break;
			if (length != (uint64_t)record_size) {
				strange = 1;
				break;
			}
			char *record = (char *)out.buf + count++ * record_size;

			ring_copy(ring, record, at + BPF_RINGBUF_HDR_SZ, (size_t)record_size);
			add_to_spans(&spans, record);
		}
		at += ((uint64_t)length + BPF_RINGBUF_HDR_SZ + 7) & ~7ULL;
	}
	__atomic_store_n(ring->consumer, at, __ATOMIC_RELEASE);
	Py_END_ALLOW_THREADS;
	PyBuffer_Release(&out);
	if (strange) {
		PyErr_SetString(PyExc_ValueError, "the ring holds a record of another size");
		return NULL;
	}
	return Py_BuildValue("nN", count, told_spans(&spans));
}

static PyObject *ring_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	ring_unmap((Ring *)self);
	Py_RETURN_NONE;
}

static PyMethodDef ring_methods[] = {
    {"used", ring_used, METH_NOARGS, NULL},
    {"drain", ring_drain, METH_VARARGS, NULL},
    {"close", ring_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot ring_slots[] = {
    {Py_tp_dealloc, ring_dealloc},
    {Py_tp_methods, ring_methods},
    {0, NULL},
};

static PyType_Spec ring_spec = {
    .name = "fathom.kernel._libbpf.Ring",
    .basicsize = sizeof(Ring),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = ring_slots,
};

static PyTypeObject *ring_type;

/* Layout of the mappings: Documentation/bpf/ringbuf.rst in the kernel. The kernel would map the
 * data twice, end to end. */
static PyObject *module_ring(PyObject *module, PyObject *args)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned int size;
	Ring *ring;
	void *map;
	int fd;

	(void)module;
	if (!PyArg_ParseTuple(args, "iI", &fd, &size))
		return NULL;
	ring = PyObject_New(Ring, ring_type);
	if (!ring)
		return NULL;
	ring->consumer = ring->producer = NULL;
	ring->size = size;
	map = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED) {
		ring->consumer = map;
		map = mmap(NULL, page + (size_t)size, PROT_READ, MAP_SHARED, fd, (off_t)page);
	}
	if (map == MAP_FAILED) {
		fail(errno, "mmap of a ring buffer");
		Py_DECREF(ring);
		return NULL;
	}
	ring->producer = map;
	ring->data = (char *)map + page;
	return (PyObject *)ring;
}

/* ---- the kernel itself ---- */

static PyObject *module_possible_cpus(PyObject *module, PyObject *unused)
{
	int n = libbpf_num_possible_cpus();

	(void)module;
	(void)unused;
	return n < 0 ? fail(n, "possible CPUs") : PyLong_FromLong(n);
}

/* test_run(program, context, repeat, packet) -> (return value, ns a run) */
static PyObject *module_test_run(PyObject *module, PyObject *args)
{
	LIBBPF_OPTS(bpf_test_run_opts, options);
	Py_ssize_t context_size, packet_size = 0;
	const char *context, *packet = NULL;
	int program, repeat, err;

	(void)module;
	if (!PyArg_ParseTuple(args, "iy#i|y#", &program, &context, &context_size, &repeat, &packet,
			      &packet_size))
		return NULL;
	options.ctx_in = context_size ? context : NULL;
	options.ctx_size_in = (uint32_t)context_size;
	options.data_in = packet_size ? packet : NULL;
	options.data_size_in = (uint32_t)packet_size;
	options.repeat = repeat;
	Py_BEGIN_ALLOW_THREADS;
	err = bpf_prog_test_run_opts(program, &options);
	Py_END_ALLOW_THREADS;
	return err ? fail(err, "test run") : Py_BuildValue("II", options.retval, options.duration);
}

/* ids(kind) -> ids of all programs (0), maps (1) or links (2) of this kernel */
static PyObject *module_ids(PyObject *module, PyObject *args)
{
	PyObject *list;
	uint32_t id = 0;
	int kind, err = 0;

	(void)module;
	if (!PyArg_ParseTuple(args, "i", &kind))
		return NULL;
	list = PyList_New(0);
	while (list && !err) {
		err = kind == 0	  ? bpf_prog_get_next_id(id, &id)
		      : kind == 1 ? bpf_map_get_next_id(id, &id)
				  : bpf_link_get_next_id(id, &id);
		if (!err && append(list, PyLong_FromUnsignedLong(id))) {
			Py_DECREF(list);
			return NULL;
		}
	}
	if (err && errno != ENOENT) {
		Py_XDECREF(list);
		return fail(errno, "ids");
	}
	return list;
}

/* probe(what, type) -> bool: does this kernel have program type (0) or map type (1)? */
static PyObject *module_probe(PyObject *module, PyObject *args)
{
	int what, type, answer;

	(void)module;
	if (!PyArg_ParseTuple(args, "ii", &what, &type))
		return NULL;
	messages_size = 0;
	answer = what == 0 ? libbpf_probe_bpf_prog_type((enum bpf_prog_type)type, NULL)
			   : libbpf_probe_bpf_map_type((enum bpf_map_type)type, NULL);
	return answer < 0 ? fail(answer, "feature probe") : PyBool_FromLong(answer);
}

static PyMethodDef methods[] = {
    {"open", module_open, METH_VARARGS, NULL},
    {"attach_raw", module_attach_raw, METH_VARARGS, NULL},
    {"attach_link", module_attach_link, METH_VARARGS, NULL},
    {"read_iterator", module_read_iterator, METH_VARARGS, NULL},
    {"map_lookup", module_map_lookup, METH_VARARGS, NULL},
    {"map_update", module_map_update, METH_VARARGS, NULL},
    {"map_delete", module_map_delete, METH_VARARGS, NULL},
    {"read_map", module_read_map, METH_VARARGS, NULL},
    {"ring", module_ring, METH_VARARGS, NULL},
    {"possible_cpus", module_possible_cpus, METH_NOARGS, NULL},
    {"test_run", module_test_run, METH_VARARGS, NULL},
    {"ids", module_ids, METH_VARARGS, NULL},
    {"probe", module_probe, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_libbpf",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__libbpf(void)
{
	PyObject *module = PyModule_Create(&definition);

	if (!module)
		return NULL;
	libbpf_set_print(collect);
	object_type = (PyTypeObject *)PyType_FromSpec(&object_spec);
	ring_type = (PyTypeObject *)PyType_FromSpec(&ring_spec);
	if (!object_type || !ring_type ||
	    PyModule_AddIntConstant(module, "CGROUP_INET_INGRESS", BPF_CGROUP_INET_INGRESS) ||
	    PyModule_AddIntConstant(module, "CGROUP_INET_EGRESS", BPF_CGROUP_INET_EGRESS) ||
	    PyModule_AddIntConstant(module, "CGROUP_INET_SOCK_CREATE",
				    BPF_CGROUP_INET_SOCK_CREATE) ||
	    PyModule_AddIntConstant(module, "CGROUP_INET_SOCK_RELEASE",
				    BPF_CGROUP_INET_SOCK_RELEASE) ||
	    PyModule_AddIntConstant(module, "TRACE_ITER", BPF_TRACE_ITER)) {
		Py_DECREF(module);
		return NULL;
	}
	return module;
}
