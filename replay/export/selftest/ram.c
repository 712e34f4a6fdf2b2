static uint8_t *ram(struct vm *vm, uint64_t gpa, uint64_t size)
{
	for (unsigned int i = 0; i < MAX_SLOTS; i++) {
		struct slot *slot = &vm->slot[i];

		if (slot->memory && gpa >= slot->gpa && size <= slot->size &&
		    gpa - slot->gpa <= slot->size - size)
			return slot->memory + (gpa - slot->gpa);
	}
	printf("# no guest RAM at 0x%llx\n", (unsigned long long)gpa);
	return NULL;
}

static void ram_write(struct vm *vm, uint64_t gpa, const uint8_t *data, uint64_t size)
{
	uint8_t *memory = ram(vm, gpa, size);

	if (memory)
		memcpy(memory, data, size);
}

static void ram_write64(struct vm *vm, uint64_t gpa, uint64_t value)
{
	ram_write(vm, gpa, (uint8_t *)&value, sizeof(value));
}

static uint64_t ram_read64(struct vm *vm, uint64_t gpa)
{
	uint8_t *memory = ram(vm, gpa, 8);
	uint64_t value = 0;

	if (memory)
		memcpy(&value, memory, 8);
	return value;
}

static void ram_fill(struct vm *vm, uint64_t gpa, uint8_t value, uint64_t size)
{
	uint8_t *memory = ram(vm, gpa, size);

	if (memory)
		memset(memory, value, size);
}

/* Puts a command into the queue; a write to GITS_CWRITER has it run. */
static void queue(struct vm *vm, uint64_t gpa, uint64_t dw0, uint64_t dw1, uint64_t dw2,
		  uint64_t dw3)
{
	const uint64_t command[] = { dw0, dw1, dw2, dw3 };

	ram_write(vm, gpa, (const uint8_t *)command, sizeof(command));
}

static void put_slot(struct vm *vm, unsigned int i, uint64_t gpa, uint64_t size)
{
	int fd = memfd_create("guest RAM", 0);
	struct kvm_userspace_memory_region region = {
		.slot = i,
		.guest_phys_addr = gpa,
		.memory_size = size,
	};
	void *memory;

	if (fd < 0 || ftruncate(fd, size) < 0)
		cannot("memfd of guest RAM");
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (memory == MAP_FAILED)
		cannot("mmap of guest RAM");
	region.userspace_addr = (uintptr_t)memory;
	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		cannot("KVM_SET_USER_MEMORY_REGION");
	vm->slot[i] = (struct slot){ gpa, size, memory, fd };
}

static void add_ram(struct vm *vm, uint64_t gpa, uint64_t size)
{
	for (unsigned int i = 0; i < MAX_SLOTS - 1; i++) {
		if (!vm->slot[i].memory) {
			put_slot(vm, i, gpa, size);
			return;
		}
	}
	printf("# more than %d memory slots\n", MAX_SLOTS);
}

static void remove_ram(struct vm *vm, uint64_t gpa)
{
	for (unsigned int i = 0; i < MAX_SLOTS; i++) {
		struct slot *slot = &vm->slot[i];
		struct kvm_userspace_memory_region gone = { .slot = i, .guest_phys_addr = gpa };

		if (!slot->memory || slot->gpa != gpa)
			continue;
		if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &gone) < 0)
			cannot("KVM_SET_USER_MEMORY_REGION");
		munmap(slot->memory, slot->size);
		close(slot->fd);
		*slot = (struct slot){ 0 };
		return;
	}
}
