// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * After QEMU's system reset GICR_PROPBASER still holds the old guest's table.
 *
 * One VM lives as was recorded; each answer must be the recorded one.
 *
 * See: QEMU 7.2 hw/intc/arm_gicv3_kvm.c, kvm_arm_gicv3_put
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
	{ 0x40000000, 0x100000000 },
};

#define GICR_CTLR	0x0000
#define GICR_PROPBASER	0x0070

/* Where nothing of the guest lies: its few instructions, and no memory at all. */
#define CODE_GPA	0xf000000000ULL
#define EXIT_GPA	0xf100000000ULL

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

static uint64_t gicr_read(struct vm *vm, unsigned int cpu, uint32_t offset)
{
	uint32_t value = 0;

	note("GICR read", offset,
	     device_attr(vm->gic, KVM_GET_DEVICE_ATTR, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
			 redist_attr(cpu, offset), &value));
	return value;
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
 * The guest: one access of 1, 2, 4 or 8 bytes to the address in x0, and a store that ends KVM_RUN
 * by an MMIO exit, to x9. An exception comes to VBAR_EL1 + 0x200 and ends it, too, 8 bytes on.
 */
static const uint32_t guest_code[] = {
	0x39000001, 0xf900013f,		/* strb w1, [x0];  str xzr, [x9] */
	0x79000001, 0xf900013f,		/* strh w1, [x0];  str xzr, [x9] */
	0xb9000001, 0xf900013f,		/* str w1, [x0];   str xzr, [x9] */
	0xf9000001, 0xf900013f,		/* str x1, [x0];   str xzr, [x9] */
	0x39400001, 0xf900013f,		/* ldrb w1, [x0];  str xzr, [x9] */
	0x79400001, 0xf900013f,		/* ldrh w1, [x0];  str xzr, [x9] */
	0xb9400001, 0xf900013f,		/* ldr w1, [x0];   str xzr, [x9] */
	0xf9400001, 0xf900013f,		/* ldr x1, [x0];   str xzr, [x9] */
};

static const uint32_t guest_aborted = 0xf900053f;	/* str xzr, [x9, #8] */

#define CORE_REG(name) \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(name))

static void set_reg(int vcpu, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	if (ioctl(vcpu, KVM_SET_ONE_REG, &reg) < 0)
		cannot("KVM_SET_ONE_REG");
}

static uint64_t get_reg(int vcpu, uint64_t id)
{
	uint64_t value = 0;
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	if (ioctl(vcpu, KVM_GET_ONE_REG, &reg) < 0)
		cannot("KVM_GET_ONE_REG");
	return value;
}

static void start_guest(struct vm *vm, unsigned int cpu)
{
	int kvm = open_kvm();
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	close(kvm);
	if (!vm->slot[MAX_SLOTS - 1].memory) {
		put_slot(vm, MAX_SLOTS - 1, CODE_GPA, 0x10000);
		memcpy(vm->slot[MAX_SLOTS - 1].memory, guest_code, sizeof(guest_code));
		memcpy(vm->slot[MAX_SLOTS - 1].memory + 0x200, &guest_aborted,
		       sizeof(guest_aborted));
	}
	vm->run[cpu] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu[cpu], 0);
	if (vm->run[cpu] == MAP_FAILED)
		cannot("mmap of a vCPU");
	set_reg(vm->vcpu[cpu], CORE_REG(regs.regs[9]), EXIT_GPA);
	set_reg(vm->vcpu[cpu], ARM64_SYS_REG(3, 0, 12, 0, 0), CODE_GPA);	/* VBAR_EL1 */
}

/* Has a vCPU make one access; `which` counts pairs of instructions. Returns what x1 is then. */
static uint64_t guest_access(struct vm *vm, unsigned int cpu, unsigned int which, uint64_t gpa,
			     uint64_t value)
{
	int vcpu = vm->vcpu[cpu];
	struct kvm_run *run;

	if (!vm->run[cpu])
		start_guest(vm, cpu);
	run = vm->run[cpu];
	set_reg(vcpu, CORE_REG(regs.regs[0]), gpa);
	set_reg(vcpu, CORE_REG(regs.regs[1]), value);
	set_reg(vcpu, CORE_REG(regs.pc), CODE_GPA + 8 * which);
	for (;;) {
		if (ioctl(vcpu, KVM_RUN, 0) < 0) {
			if (errno == EINTR)
				continue;
			cannot("KVM_RUN");
		}
		if (run->exit_reason != KVM_EXIT_MMIO) {
			printf("# vCPU %u: exit reason %u\n", cpu, run->exit_reason);
			return 0;
		}
		if (run->mmio.phys_addr == EXIT_GPA || run->mmio.phys_addr == EXIT_GPA + 8)
			break;
		note("access", gpa, -ENXIO);	/* no device answers there */
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0, sizeof(run->mmio.data));
	}
	if (run->mmio.phys_addr != EXIT_GPA)
		note("access", gpa, -EFAULT);
	run->immediate_exit = 1;	/* have KVM step over the store before the PC is set anew */
	ioctl(vcpu, KVM_RUN, 0);
	run->immediate_exit = 0;
	return get_reg(vcpu, CORE_REG(regs.regs[1]));
}

static void guest_write(struct vm *vm, unsigned int cpu, uint64_t gpa, unsigned int size,
			uint64_t value)
{
	guest_access(vm, cpu, __builtin_ctz(size), gpa, value);
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

/* What was recorded. */
static void story(struct vm *vm)
{
	guest_write(vm, 0, GICR_BASE + 0x0 + GICR_PROPBASER, 8, 0x425c078f);
	guest_write(vm, 0, GICR_BASE + 0x0 + GICR_CTLR, 4, 0x1);
	expect("event 2: CTRL_RESET", control(vm->its, KVM_DEV_ARM_ITS_CTRL_RESET), 0);
	expect("event 4: GICR_PROPBASER of vCPU 0", gicr_write(vm, 0, GICR_PROPBASER, 0x0),
	       0);
	expect("event 6: GICR_PROPBASER of vCPU 0",
	       gicr_read(vm, 0, GICR_PROPBASER) & 0xffffffff, 0x425c078f);
}

int main(void)
{
	struct vm vm;

	need_its();
	tap_begin(3);
	new_vm(&vm);
	story(&vm);
	return tap_end();
}
