// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A device that MAPD unmapped comes back from a save and restore.
 *
 * Two VMs live the same; one is saved, reset and restored. Both are asked the same, and must
 * answer alike: what was saved is restored, and nothing else.
 *
 * See: Linux e9649129d33d Clear DTE when MAPD unmaps a device (v6.13)
 *
 * KVM ioctls only: any arm64 host with KVM and a GICv3 runs it. Build: gcc -static -O2 -Wall
 * -Wextra -Werror -o NAME NAME.c. Exit code: 0 pass, 1 fail, 4 skip.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KSFT_PASS	0
#define KSFT_FAIL	1
#define KSFT_SKIP	4

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define ALL_BITS	(~0ULL)
#define MAX_CPUS	16
#define MAX_SLOTS	32
#define TEXT_BYTES	4096

/* Where things are in the guest's address space. */
#define GICD_BASE	0x8000000ULL
#define ITS_BASE	0x8080000ULL
#define GICR_BASE	0x80a0000ULL
#define NR_IRQS		64
#define ANSWERS		1
static const uint32_t vcpu_ids[] = { 0x0 };
static const struct {
	uint64_t gpa, size;
} ram_ranges[] = {
	{ 0x40000000, 0x800000 },
};

#define GICR_PROPBASER	0x0070
#define GITS_CTLR	0x0000
#define GITS_CBASER	0x0080
#define GITS_CWRITER	0x0088
#define GITS_BASER0	0x0100
#define GITS_BASER1	0x0108

/* One memory slot; a memfd, so that what was never touched need not be copied. */
struct slot {
	uint64_t gpa, size;
	uint8_t *memory;
	int fd;
};

struct vm {
	int fd, gic, its, vcpu[MAX_CPUS];
	struct kvm_run *run[MAX_CPUS];
	struct slot slot[MAX_SLOTS];
	unsigned int asked;
};

static unsigned int test;
static unsigned int failed;
static unsigned int skipped;

/* What the VM that is asked first answers. */
static struct told {
	void *data;
	size_t size;
} first_told[ANSWERS];

static void tap_begin(unsigned int plan)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n1..%u\n", plan);
}

static void tap_result(int good, const char *what)
{
	printf("%sok %u - %s\n", good ? "" : "not ", ++test, what);
	failed += !good;
}

static void tap_skip(const char *what, const char *why)
{
	printf("ok %u - %s # SKIP %s\n", ++test, what, why);
	skipped++;
}

/* What was skipped may be what would have failed. */
static int tap_end(void)
{
	printf("# Totals: pass:%u fail:%u xfail:0 xpass:0 skip:%u error:0\n",
	       test - failed - skipped, failed, skipped);
	if (failed)
		return KSFT_FAIL;
	return skipped ? KSFT_SKIP : KSFT_PASS;
}

/* The host cannot run this at all. */
static void cannot(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(KSFT_FAIL);
}

static int open_kvm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		cannot("/dev/kvm");
	return kvm;
}

static int emulates(int vm, uint32_t type)
{
	struct kvm_create_device device = { .type = type, .flags = KVM_CREATE_DEVICE_TEST };

	return !ioctl(vm, KVM_CREATE_DEVICE, &device);
}

/* A host without KVM, or whose KVM emulates no GICv3 with an ITS, can only skip this. */
static void need_its(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0 || !emulates(vm, KVM_DEV_TYPE_ARM_VGIC_V3) ||
	    !emulates(vm, KVM_DEV_TYPE_ARM_VGIC_ITS)) {
		printf("TAP version 13\n1..0 # SKIP no KVM with a GICv3 and an ITS\n");
		exit(KSFT_SKIP);
	}
	close(vm);
	close(kvm);
}

/* Says when a step that the story takes for granted did not work. */
static int note(const char *what, uint64_t where, int error)
{
	if (error)
		printf("# %s 0x%llx: %s\n", what, (unsigned long long)where, strerror(-error));
	return error;
}

static int device_attr(int fd, unsigned long how, uint32_t group, uint64_t attr, void *value)
{
	struct kvm_device_attr a = {
		.group = group,
		.attr = attr,
		.addr = (uintptr_t)value,
	};

	return ioctl(fd, how, &a) < 0 ? -errno : 0;
}

static void must_set(int fd, uint32_t group, uint64_t attr, void *value, const char *what)
{
	if (device_attr(fd, KVM_SET_DEVICE_ATTR, group, attr, value))
		cannot(what);
}

/* KVM_DEV_ARM_ITS_SAVE_TABLES and its like, which have no value. */
static int control(int fd, uint64_t attr)
{
	int error = device_attr(fd, KVM_SET_DEVICE_ATTR, KVM_DEV_ARM_VGIC_GRP_CTRL, attr, NULL);

	return note("KVM_DEV_ARM_VGIC_GRP_CTRL", attr, error);
}

static int its_write(struct vm *vm, uint32_t offset, uint64_t value)
{
	return note("GITS write", offset,
		    device_attr(vm->its, KVM_SET_DEVICE_ATTR,
				KVM_DEV_ARM_VGIC_GRP_ITS_REGS, offset, &value));
}

/* The upper half of a redistributor's attribute is its vCPU's affinity. */
static uint64_t redist_attr(unsigned int cpu, uint32_t offset)
{
	uint64_t id = cpu < ARRAY_SIZE(vcpu_ids) ? vcpu_ids[cpu] : 0xffff;

	return (id & 0xf) << 32 | (id >> 4) << 40 | offset;
}

/* An attribute has 4 bytes of a redistributor's register. */
static int gicr_write(struct vm *vm, unsigned int cpu, uint32_t offset, uint32_t value)
{
	return note("GICR write", offset,
		    device_attr(vm->gic, KVM_SET_DEVICE_ATTR, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
				redist_attr(cpu, offset), &value));
}

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

static int new_device(struct vm *vm, uint32_t type)
{
	struct kvm_create_device device = { .type = type };

	if (ioctl(vm->fd, KVM_CREATE_DEVICE, &device) < 0)
		cannot("KVM_CREATE_DEVICE");
	return device.fd;
}

static void new_gic(struct vm *vm)
{
	uint64_t gicd = GICD_BASE, gicr = GICR_BASE;
	uint32_t interrupts = NR_IRQS;

	vm->gic = new_device(vm, KVM_DEV_TYPE_ARM_VGIC_V3);
	must_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &interrupts, "number of interrupts");
	must_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &gicd,
		 "address of the distributor");
	must_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST, &gicr,
		 "address of the redistributors");
}

static void new_its(struct vm *vm)
{
	uint64_t its = ITS_BASE;

	vm->its = new_device(vm, KVM_DEV_TYPE_ARM_VGIC_ITS);
	must_set(vm->its, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, &its,
		 "address of the ITS");
	must_set(vm->its, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL,
		 "init of the ITS");
}

static void new_vm(struct vm *vm)
{
	struct kvm_vcpu_init init = { 0 };
	int kvm = open_kvm();

	*vm = (struct vm){ .fd = ioctl(kvm, KVM_CREATE_VM, 0) };
	if (vm->fd < 0)
		cannot("KVM_CREATE_VM");
	if (ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init) < 0)
		cannot("KVM_ARM_PREFERRED_TARGET");
	init.features[0] |= 1U << KVM_ARM_VCPU_PSCI_0_2;
	for (unsigned int i = 0; i < ARRAY_SIZE(vcpu_ids); i++) {
		vm->vcpu[i] = ioctl(vm->fd, KVM_CREATE_VCPU, vcpu_ids[i]);
		if (vm->vcpu[i] < 0)
			cannot("KVM_CREATE_VCPU");
	}
	new_gic(vm);
	for (unsigned int i = 0; i < ARRAY_SIZE(vcpu_ids); i++)
		if (ioctl(vm->vcpu[i], KVM_ARM_VCPU_INIT, &init) < 0)
			cannot("KVM_ARM_VCPU_INIT");
	must_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL,
		 "init of the GIC");
	new_its(vm);
	for (unsigned int i = 0; i < ARRAY_SIZE(ram_ranges); i++)
		add_ram(vm, ram_ranges[i].gpa, ram_ranges[i].size);
	close(kvm);
}

/* A step that must work for the questions behind it to mean something. */
static void must(const char *what, int error)
{
	tap_result(!error, what);
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

/* The life of both VMs. */
static void life(struct vm *vm)
{
	gicr_write(vm, 0, GICR_PROPBASER, 0x4040000f);
	/* Physical_Address=0x40010000 Valid */
	its_write(vm, GITS_CBASER, 0x8000000040010000);
	/* Physical_Address=0x40020000 Valid */
	its_write(vm, GITS_BASER0, 0x8000000040020000);
	/* Physical_Address=0x40200000 Valid */
	its_write(vm, GITS_BASER1, 0x8000000040200000);
	/* Enabled */
	its_write(vm, GITS_CTLR, 0x1);
	/* MAPD DeviceID=0x0 Size=0x0 ITT_addr=0x40040000 V=0x1 */
	queue(vm, 0x40010000, 0x8, 0x0, 0x8000000040040000, 0x0);
	/* MAPTI DeviceID=0x0 EventID=0x0 pINTID=0x2000 ICID=0x0 */
	queue(vm, 0x40010020, 0xa, 0x200000000000, 0x0, 0x0);
	/* Offset=0x40 */
	its_write(vm, GITS_CWRITER, 0x40);
	control(vm->its, KVM_DEV_ARM_ITS_SAVE_TABLES);
	/* MAPD DeviceID=0x0 Size=0x0 ITT_addr=0x0 V=0x0 */
	queue(vm, 0x40010040, 0x8, 0x0, 0x0, 0x0);
	/* Offset=0x60 */
	its_write(vm, GITS_CWRITER, 0x60);
}

/* Saved, too, or tables in RAM would be of another time. */
static void save(struct vm *vm)
{
	must("event 19: SAVE_TABLES", control(vm->its, KVM_DEV_ARM_ITS_SAVE_TABLES));
}

/* Saved, reset and restored. */
static void round_trip(struct vm *vm)
{
	must("event 19: SAVE_TABLES", control(vm->its, KVM_DEV_ARM_ITS_SAVE_TABLES));
	must("event 21: CTRL_RESET", control(vm->its, KVM_DEV_ARM_ITS_CTRL_RESET));
	/* Physical_Address=0x40020000 Valid */
	its_write(vm, GITS_BASER0, 0x8000000040020000);
	/* Physical_Address=0x40200000 Valid */
	its_write(vm, GITS_BASER1, 0x8000000040200000);
	must("event 27: RESTORE_TABLES", control(vm->its, KVM_DEV_ARM_ITS_RESTORE_TABLES));
}

/* The questions. */
static void questions(struct vm *vm)
{
	answer_lpis(vm, "event 29: the live LPIs");
}

int main(void)
{
	struct vm kept, restored;

	need_its();
	tap_begin(5);
	new_vm(&kept);
	life(&kept);
	save(&kept);

	new_vm(&restored);
	life(&restored);
	round_trip(&restored);

	questions(&kept);
	questions(&restored);
	return tap_end();
}
