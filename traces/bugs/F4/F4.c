// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * SAVE_TABLES kills the host when a mapped event has no collection.
 *
 * One VM lives as was recorded; the host must live, too.
 *
 * See: Linux c6c156d931c3 Don't dereference a NULL collection on ITT save
 *
 * WARNING: a host with the bug dies of this test, in vgic_its_save_tables_v0
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

/*
 * Runs the steps in a child, since a host that oopses kills whoever asked, if it does not end
 * itself. Returns whether the child ended as it should.
 */
static int lives_through(void (*steps)(struct vm *vm), struct vm *vm)
{
	int status = 0;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child < 0)
		cannot("fork");
	if (!child) {
		new_vm(vm);
		steps(vm);
		fflush(stdout);
		_exit(0);
	}
	for (int tenths = 0; tenths < 300; tenths++) {
		if (waitpid(child, &status, WNOHANG) == child) {
			if (WIFSIGNALED(status))
				printf("# killed by signal %d: see the host's log\n",
				       WTERMSIG(status));
			return WIFEXITED(status) && !WEXITSTATUS(status);
		}
		usleep(100000);
	}
	printf("# it hangs: see the host's log\n");
	return 0;
}

/* What a host with the bug dies of. */
static void story(struct vm *vm)
{
	gicr_write(vm, 0, GICR_PROPBASER, 0x4001000e);
	/* Physical_Address=0x40020000 Valid */
	its_write(vm, GITS_BASER0, 0x8000000040020000);
	/* Physical_Address=0x40400000 Valid */
	its_write(vm, GITS_BASER1, 0x8000000040400000);
	/* Physical_Address=0x40040000 Valid */
	its_write(vm, GITS_CBASER, 0x8000000040040000);
	/* Enabled */
	its_write(vm, GITS_CTLR, 0x1);
	/* MAPD DeviceID=0x0 Size=0x0 ITT_addr=0x40080000 V=0x1 */
	queue(vm, 0x40040000, 0x8, 0x0, 0x8000000040080000, 0x0);
	/* MAPTI DeviceID=0x0 EventID=0x0 pINTID=0x2000 ICID=0x0 */
	queue(vm, 0x40040020, 0xa, 0x200000000000, 0x0, 0x0);
	/* Offset=0x40 */
	its_write(vm, GITS_CWRITER, 0x40);
	its_write(vm, GITS_CTLR, 0x0);
	/* Physical_Address=0x40400000 */
	its_write(vm, GITS_BASER1, 0x40400000);
	control(vm->its, KVM_DEV_ARM_ITS_SAVE_TABLES);
}

int main(void)
{
	struct vm vm;

	need_its();
	tap_begin(1);
	puts("# WARNING: a host with the bug dies of this test, in vgic_its_save_tables_v0");

	tap_result(lives_through(story, &vm), "the host lives after SAVE_TABLES");
	return tap_end();
}
