// SPDX-License-Identifier: Apache-2.0
/*
 * Records that differ in nothing that counts become one, with sums: so that what is done with
 * arrays afterwards is done once a group, not once a record. It knows no probe; which bytes tell
 * records apart and which columns add up is said by the caller.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#define MAX_WORDS 64
#define MAX_SUMS  16
/* Columns of a group before its sums: records; sum, least and greatest of their latencies, and the
 * bucket that they are all in (0: none has one). */
#define FIXED 5

/* Where records must agree: words of the record with bits that count. */
struct mask {
	int words;
	int at[MAX_WORDS];
	uint64_t bits[MAX_WORDS];
};

struct sum {
	int offset;
	int width;
};

struct plan {
	struct mask masks[4];
	int kinds; /* one mask for each value of the byte at selector */
	int selector;
	int latency; /* offset of a 64-bit column in ns; 0 or less is none */
	int sums;
	struct sum sum[MAX_SUMS];
	const int64_t *bounds;
	int64_t buckets;
	uint64_t keys[MAX_WORDS + 1]; /* secret */
};

static uint64_t word_at(const char *record, int index)
{
	uint64_t word;

	memcpy(&word, record + 8 * index, 8);
	return word;
}

static int64_t column_at(const char *record, const struct sum *sum)
{
	uint64_t wide;
	uint32_t narrow;

	if (sum->width == 8) {
		memcpy(&wide, record + sum->offset, 8);
		return (int64_t)wide;
	}
	memcpy(&narrow, record + sum->offset, 4);
	return narrow;
}

static const struct mask *mask_of(const struct plan *plan, const char *record)
{
	unsigned char kind = (unsigned char)record[plan->selector];

	return &plan->masks[kind < plan->kinds ? kind : plan->kinds - 1];
}

/* From 1, the first bucket whose bound is not below it; 0: no latency. */
static int64_t bucket_of(const struct plan *plan, int64_t latency)
{
	const int64_t *from = plan->bounds;
	int64_t left = plan->buckets;

	if (latency <= 0)
		return 0;
	while (left > 0) {
		int64_t half = (left + 1) / 2;
		int64_t below = from[half - 1] < latency;

		from += below ? half : 0;
		left = below ? left - half : half - 1;
	}
	return from - plan->bounds + 1;
}

/* Multilinear hashing (Carter, Wegman 1979): words times secret factors, added up; high bits are
 * good. */
static uint64_t hash_of(const struct plan *plan, const struct mask *mask, const char *record,
			int64_t bucket)
{
	uint64_t hash = (uint64_t)bucket * plan->keys[MAX_WORDS];
	int i;

	for (i = 0; i < mask->words; i++) {
		uint64_t word = word_at(record, mask->at[i]) & mask->bits[i];

		hash += (word ^ word >> 32) * plan->keys[i];
	}
	return hash ^ hash >> 32;
}

static int alike(const struct mask *mask, const char *a, const char *b)
{
	int i;

	for (i = 0; i < mask->words; i++)
		if ((word_at(a, mask->at[i]) ^ word_at(b, mask->at[i])) & mask->bits[i])
			return 0;
	return 1;
}

static void add(const struct plan *plan, int64_t *total, const char *record, int64_t latency)
{
	int i;

	if (latency > 0) {
		total[1] += latency;
		if (!total[0] || latency < total[2])
			total[2] = latency;
		if (latency > total[3])
			total[3] = latency;
	}
	total[0]++;
	for (i = 0; i < plan->sums; i++)
		total[FIXED + i] += column_at(record, &plan->sum[i]);
}

/* Groups so far. A place in the table is a group's number plus one, 0 is free. */
struct groups {
	uint32_t *table;
	uint64_t places; /* a power of two, at least twice the most */
	char *rows;	 /* each group's first record */
	int64_t *totals;
	Py_ssize_t count, most;
};

/* How many of the records were taken: all, unless there is no room for another group; -1 if the
 * table is not one of these groups. */
static Py_ssize_t fold(const struct plan *plan, const char *records, Py_ssize_t count, int size,
		       struct groups *groups)
{
	const int width = FIXED + plan->sums;
	const uint64_t mask_of_places = groups->places - 1;
	Py_ssize_t i;

	for (i = 0; i < count; i++) {
		const char *record = records + i * size;
		const struct mask *mask = mask_of(plan, record);
		int64_t latency = 0, bucket;
		int64_t *total;
		uint64_t at, tries;

		memcpy(&latency, record + plan->latency, 8);
		bucket = bucket_of(plan, latency);
		at = hash_of(plan, mask, record, bucket) & mask_of_places;
		for (tries = 0;; at = (at + 1) & mask_of_places) {
			uint32_t group = groups->table[at];
			const char *other;

			if (!group) {
				if (groups->count == groups->most)
					return i;
				groups->table[at] = (uint32_t)groups->count + 1;
				memcpy(groups->rows + groups->count * size, record, (size_t)size);
				total = groups->totals + groups->count++ * width;
				memset(total, 0, sizeof(*total) * (size_t)width);
				total[4] = bucket;
				break;
			}
			if (group > groups->count || ++tries > groups->places)
				return -1;
			total = groups->totals + (Py_ssize_t)(group - 1) * width;
			other = groups->rows + (Py_ssize_t)(group - 1) * size;
			/* Of one kind if the mask is the same one. */
			if (bucket == total[4] && mask == mask_of(plan, other) &&
			    alike(mask, record, other))
				break;
		}
		add(plan, total, record, latency);
	}
	return count;
}

static void read_masks(struct plan *plan, const char *masks, int size)
{
	int kind, i;

	for (kind = 0; kind < plan->kinds; kind++) {
		struct mask *mask = &plan->masks[kind];

		for (i = 0; i < size / 8; i++) {
			uint64_t bits = word_at(masks + kind * size, i);

			if (!bits)
				continue;
			mask->at[mask->words] = i;
			mask->bits[mask->words++] = bits;
		}
	}
}

static int read_sums(struct plan *plan, PyObject *sums, int size)
{
	Py_ssize_t n = PyTuple_Size(sums), i;

	if (n < 0 || n > MAX_SUMS)
		return -1;
	for (i = 0; i < n; i++) {
		struct sum *sum = &plan->sum[i];

		if (!PyArg_ParseTuple(PyTuple_GetItem(sums, i), "ii", &sum->offset, &sum->width))
			return -1;
		if (sum->offset < 0 || (sum->width != 4 && sum->width != 8) ||
		    sum->offset + sum->width > size)
			return -1;
	}
	plan->sums = (int)n;
	return 0;
}

struct buffers {
	Py_buffer records, masks, bounds, table, rows, totals, keys;
};

static int fits(const struct plan *plan, const struct buffers *b, int size, struct groups *groups)
{
	if (size < 8 || size % 8 || size / 8 > MAX_WORDS || b->records.len % size)
		return 0;
	groups->table = b->table.buf;
	groups->places = (uint64_t)b->table.len / 4;
	groups->rows = b->rows.buf;
	groups->totals = b->totals.buf;
	groups->most = b->rows.len / size;
	return plan->kinds >= 1 && plan->kinds <= 4 &&
	       b->masks.len == (Py_ssize_t)plan->kinds * size && plan->selector >= 0 &&
	       plan->selector < size && plan->latency >= 0 && plan->latency + 8 <= size &&
	       groups->places && !(groups->places & (groups->places - 1)) &&
	       groups->places >= 2 * (uint64_t)groups->most && groups->most < INT32_MAX &&
	       groups->count >= 0 && groups->count <= groups->most &&
	       b->keys.len == (Py_ssize_t)sizeof(plan->keys);
}

static void release(struct buffers *b)
{
	PyBuffer_Release(&b->records);
	PyBuffer_Release(&b->masks);
	PyBuffer_Release(&b->bounds);
	PyBuffer_Release(&b->table);
	PyBuffer_Release(&b->rows);
	PyBuffer_Release(&b->totals);
	PyBuffer_Release(&b->keys);
}

/* fold(records, size, (masks, selector), sums, (latency, bounds), (groups, table, rows, totals),
 * keys) -> (groups, taken) */
static PyObject *module_fold(PyObject *module, PyObject *args)
{
	struct buffers b = {0};
	struct plan plan = {0};
	struct groups groups = {0};
	Py_ssize_t taken = -1;
	PyObject *sums;
	int size;

	(void)module;
	if (!PyArg_ParseTuple(args, "y*i(y*i)O!(iy*)(nw*w*w*)y*", &b.records, &size, &b.masks,
			      &plan.selector, &PyTuple_Type, &sums, &plan.latency, &b.bounds,
			      &groups.count, &b.table, &b.rows, &b.totals, &b.keys))
		return NULL;
	plan.kinds = size > 0 ? (int)(b.masks.len / size) : 0;
	plan.bounds = b.bounds.buf;
	plan.buckets = b.bounds.len / 8;
	if (fits(&plan, &b, size, &groups) && !read_sums(&plan, sums, size) &&
	    b.totals.len >= groups.most * 8 * (FIXED + plan.sums)) {
		read_masks(&plan, b.masks.buf, size);
		memcpy(plan.keys, b.keys.buf, sizeof(plan.keys));
		Py_BEGIN_ALLOW_THREADS;
		if (!groups.count)
			memset(b.table.buf, 0, (size_t)b.table.len);
		taken = fold(&plan, b.records.buf, b.records.len / size, size, &groups);
		Py_END_ALLOW_THREADS;
	}
	release(&b);
	if (taken < 0) {
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_ValueError,
					"columns or buffers do not fit the records");
		return NULL;
	}
	return Py_BuildValue("nn", groups.count, taken);
}

/* span(records, size, offset) -> (least, greatest) of a column of 64 bits */
static PyObject *module_span(PyObject *module, PyObject *args)
{
	uint64_t least = UINT64_MAX, greatest = 0;
	Py_ssize_t size, offset, i;
	Py_buffer records;
	int fit;

	(void)module;
	if (!PyArg_ParseTuple(args, "y*nn", &records, &size, &offset))
		return NULL;
	fit = size >= 8 && offset >= 0 && offset <= size - 8 && records.len >= size &&
	      records.len % size == 0;
	for (i = 0; fit && i < records.len; i += size) {
		uint64_t word;

		memcpy(&word, (const char *)records.buf + i + offset, 8);
		least = word < least ? word : least;
		greatest = word > greatest ? word : greatest;
	}
	PyBuffer_Release(&records);
	if (!fit) {
		PyErr_SetString(PyExc_ValueError, "there is no such column, or no record");
		return NULL;
	}
	return Py_BuildValue("KK", (unsigned long long)least, (unsigned long long)greatest);
}

static PyMethodDef methods[] = {
    {"fold", module_fold, METH_VARARGS, NULL},
    {"span", module_span, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_fold",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__fold(void)
{
	return PyModule_Create(&definition);
}
