/* A step that must work for the questions behind it to mean something. */
static void must(const char *what, int error)
{
	tap_result(!error, what);
}

/* One answer must be as it was recorded. */
static void expect(const char *what, uint64_t got, uint64_t expected)
{
	tap_result(got == expected, what);
	if (got != expected)
		printf("# got 0x%llx (%lld), expected 0x%llx (%lld)\n",
		       (unsigned long long)got, (long long)got,
		       (unsigned long long)expected, (long long)expected);
}

static void tell_bytes(const uint8_t *got, const uint8_t *expected, size_t size)
{
	for (size_t i = 0; i < size; i += 8) {
		size_t left = size - i < 8 ? size - i : 8;
		uint64_t one = 0, other = 0;

		memcpy(&one, got + i, left);
		memcpy(&other, expected + i, left);
		if (one == other)
			continue;
		printf("# at +0x%zx: got 0x%016llx, expected 0x%016llx\n", i,
		       (unsigned long long)one, (unsigned long long)other);
		return;
	}
}

static void expect_ram(struct vm *vm, const char *what, uint64_t gpa, const uint8_t *expected,
		       size_t size)
{
	const uint8_t *got = ram(vm, gpa, size);

	tap_result(got && !memcmp(got, expected, size), what);
	if (got)
		tell_bytes(got, expected, size);
}

/* The VM that is asked first says what is right; the other one must answer alike. */
static void answer_bytes(struct vm *vm, const char *what, const void *data, size_t size)
{
	struct told *expected = &first_told[vm->asked++];
	int good;

	if (!expected->data) {
		expected->data = malloc(size + 1);
		if (!expected->data)
			cannot("malloc");
		memcpy(expected->data, data, size);
		expected->size = size;
		return;
	}
	good = expected->size == size && !memcmp(expected->data, data, size);
	tap_result(good, what);
	if (!good && expected->size == size)
		tell_bytes(data, expected->data, size);
}

/* Bits that no contract speaks of are left out of `mask`. */
static void answer(struct vm *vm, const char *what, uint64_t value, uint64_t mask)
{
	value &= mask;
	answer_bytes(vm, what, &value, sizeof(value));
}

static void answer_ram(struct vm *vm, const char *what, uint64_t gpa, size_t size)
{
	const uint8_t *memory = ram(vm, gpa, size);

	if (memory)
		answer_bytes(vm, what, memory, size);
	else if (first_told[vm->asked++].data)
		tap_skip(what, "no guest RAM is there");
	else
		first_told[vm->asked - 1].data = strdup("");
}

static void copy_slot(struct slot *to, const struct slot *from)
{
	off_t data = 0, hole = 0;

	while ((data = lseek(from->fd, hole, SEEK_DATA)) >= 0) {
		hole = lseek(from->fd, data, SEEK_HOLE);
		memcpy(to->memory + data, from->memory + data, hole - data);
	}
}

static struct slot *slot_at(struct vm *vm, uint64_t gpa)
{
	for (unsigned int i = 0; i < MAX_SLOTS - 1; i++)
		if (vm->slot[i].memory && vm->slot[i].gpa == gpa)
			return &vm->slot[i];
	return NULL;
}

static void copy_ram(struct vm *to, struct vm *from)
{
	for (unsigned int i = 0; i < MAX_SLOTS - 1; i++) {
		struct slot *slot = slot_at(to, from->slot[i].gpa);

		if (from->slot[i].memory && slot && slot->size == from->slot[i].size)
			copy_slot(slot, &from->slot[i]);
	}
}

/* Returns the first doubleword at or behind `at` in which two slots differ, or their size. */
static uint64_t first_difference(const struct slot *one, const struct slot *other, uint64_t at)
{
	const struct slot *both[] = { one, other };
	uint64_t found = one->size;

	for (unsigned int i = 0; i < 2; i++) {
		off_t data, hole = at;

		while ((data = lseek(both[i]->fd, hole, SEEK_DATA)) >= 0 &&
		       (uint64_t)data < found) {
			hole = lseek(both[i]->fd, data, SEEK_HOLE);
			while (data < hole && (uint64_t)data < found &&
			       !memcmp(one->memory + data, other->memory + data, 8))
				data += 8;
			if (data < hole) {
				if ((uint64_t)data < found)
					found = data;
				break;
			}
		}
	}
	return found;
}

/* All of guest RAM must be the same. */
static void compare_ram(struct vm *vm, struct vm *expected)
{
	unsigned int differing = 0;

	for (unsigned int i = 0; i < MAX_SLOTS - 1; i++) {
		const struct slot *one = &vm->slot[i];
		const struct slot *other = one->memory ? slot_at(expected, one->gpa) : NULL;
		uint64_t at = 0;

		if (!other)
			continue;
		while (differing < 8 && (at = first_difference(one, other, at)) < one->size) {
			uint64_t got, want;

			memcpy(&got, one->memory + at, 8);
			memcpy(&want, other->memory + at, 8);
			printf("# RAM at 0x%llx: got 0x%016llx, expected 0x%016llx\n",
			       (unsigned long long)(one->gpa + at),
			       (unsigned long long)got, (unsigned long long)want);
			differing++;
			at += 8;
		}
	}
	tap_result(!differing, "all of guest RAM");
}

static int by_text(const void *one, const void *other)
{
	return strcmp(*(char *const *)one, *(char *const *)other);
}

/*
 * Lists the LPIs that live, a line each: INTID, vCPU, flags, priority, vCPU that it is queued on.
 * Only debugfs shows them. Returns whether there is such a list.
 */
static int live_lpis(struct vm *vm, char *text)
{
	char path[128], line[256], *rows[TEXT_BYTES / 8];
	size_t count = 0, used = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/vgic-state", getpid(), vm->fd);
	file = fopen(path, "r");
	text[0] = 0;
	if (!file)
		return 0;
	while (count < ARRAY_SIZE(rows) && fgets(line, sizeof(line), file)) {
		int intid, target, priority, queued;
		char flags[8];

		if (sscanf(line, " LPI %d %d %7s %*d %*d %*d %d %d", &intid, &target, flags,
			   &priority, &queued) == 5 &&
		    asprintf(&rows[count], "LPI %d vCPU %d PLAEHCG=%s priority %d queued %d\n",
			     intid, target, flags, priority, queued) > 0)
			count++;
	}
	fclose(file);
	qsort(rows, count, sizeof(rows[0]), by_text);
	for (size_t i = 0; i < count; i++) {
		used += snprintf(text + used, used < TEXT_BYTES ? TEXT_BYTES - used : 0, "%s",
				 rows[i]);
		free(rows[i]);
		if (used >= TEXT_BYTES)
			return 0;	/* more than can be compared */
	}
	return 1;
}

static void tell_lines(const char *text, const char *who)
{
	while (*text) {
		int length = strcspn(text, "\n");

		printf("# %s: %.*s\n", who, length, text);
		text += length + (text[length] == '\n');
	}
}

static void expect_lpis(struct vm *vm, const char *what, const char *expected)
{
	char got[TEXT_BYTES];

	if (!live_lpis(vm, got)) {
		tap_skip(what, "debugfs does not list the live LPIs");
		return;
	}
	tap_result(!strcmp(got, expected), what);
	if (strcmp(got, expected)) {
		tell_lines(got, "got");
		tell_lines(expected, "expected");
	}
}

static void answer_lpis(struct vm *vm, const char *what)
{
	struct told *expected = &first_told[vm->asked++];
	char got[TEXT_BYTES];
	int listed = live_lpis(vm, got);

	if (!expected->data) {
		expected->data = strdup(got);
		return;
	}
	if (!listed) {
		tap_skip(what, "debugfs does not list the live LPIs");
		return;
	}
	tap_result(!strcmp(got, expected->data), what);
	if (strcmp(got, expected->data)) {
		tell_lines(got, "got");
		tell_lines(expected->data, "expected");
	}
}
