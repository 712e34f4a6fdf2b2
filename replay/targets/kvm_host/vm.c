// Makes a VM with a GICv3 and an ITS, and changes its memory slots.
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm.h"

struct vm vms[MAX_VMS];
int kvm, run_bytes;

static int set_attribute(int fd, uint32_t group, uint64_t attribute, void *value) {
    struct kvm_device_attr a = {.group = group, .attr = attribute, .addr = (uint64_t)value};
    return ioctl(fd, KVM_SET_DEVICE_ATTR, &a) < 0 ? -errno : 0;
}

static int new_device(struct vm *vm, int type) {
    struct kvm_create_device device = {.type = type};
    return ioctl(vm->fd, KVM_CREATE_DEVICE, &device) < 0 ? -errno : (int)device.fd;
}

int map_slot(struct vm *vm, int at, uint64_t gpa, uint64_t size) {
    uint8_t *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return -errno;
    struct kvm_userspace_memory_region region = {
        .slot = at, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = (uint64_t)memory};
    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0) {
        int error = -errno;
        munmap(memory, size);
        return error;
    }
    vm->slot[at] = (struct slot){gpa, size, memory};
    return 0;
}

int change_slot(struct vm *vm, uint64_t gpa, uint64_t size, int present) {
    for (int at = 1; at < MAX_SLOTS; at++) {
        struct slot *slot = &vm->slot[at];
        if (present && !slot->memory) return map_slot(vm, at, gpa, size);
        if (!present && slot->memory && slot->gpa == gpa) {
            struct kvm_userspace_memory_region gone = {.slot = at, .guest_phys_addr = gpa};
            if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &gone) < 0) return -errno;
            munmap(slot->memory, slot->size);
            *slot = (struct slot){0};
            return 0;
        }
    }
    return -ENOENT;
}

void free_vm(struct vm *vm) {
    for (int cpu = 0; cpu < vm->cpus; cpu++) {
        if (vm->run[cpu]) munmap(vm->run[cpu], run_bytes);
        if (vm->cpu[cpu] > 0) close(vm->cpu[cpu]);
    }
    for (int at = 0; at < 2; at++)
        if (vm->device[at] > 0) close(vm->device[at]);
    for (int at = 0; at < MAX_SLOTS; at++)
        if (vm->slot[at].memory) munmap(vm->slot[at].memory, vm->slot[at].size);
    if (vm->fd > 0) close(vm->fd);
    memset(vm, 0, sizeof *vm);
}

int new_its(struct vm *vm, uint64_t its_base) {
    vm->device[ITS] = new_device(vm, KVM_DEV_TYPE_ARM_VGIC_ITS);
    if (vm->device[ITS] < 0) return vm->device[ITS];
    int error = set_attribute(vm->device[ITS], KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, &its_base);
    return error ? error : set_attribute(vm->device[ITS], KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, 0);
}

// x: where the GIC is; y: the distance of ITS and redistributors from it, a half each; `ids`: of the vCPUs
int new_vm(struct vm *vm, uint64_t gicd, uint64_t distances, const uint32_t *ids, int cpus, uint32_t interrupts) {
    struct kvm_vcpu_init init;
    uint64_t its = gicd + (distances & 0xffffffff), gicr = gicd + (distances >> 32);
    free_vm(vm);
    if (cpus < 1 || cpus > MAX_CPUS) return -EINVAL;
    do vm->fd = ioctl(kvm, KVM_CREATE_VM, 0);
    while (vm->fd < 0 && errno == EINTR);  // by the alarm of every second: the kernel does not restart it
    if (vm->fd < 0) return -errno;
    vm->cpus = cpus;
    for (int cpu = 0; cpu < cpus; cpu++)
        if ((vm->cpu[cpu] = ioctl(vm->fd, KVM_CREATE_VCPU, ids[cpu])) < 0) return -errno;
    if (ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init) < 0) return -errno;
    init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    if ((vm->device[GIC] = new_device(vm, KVM_DEV_TYPE_ARM_VGIC_V3)) < 0) return vm->device[GIC];
    int gic = vm->device[GIC];
    set_attribute(gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &interrupts);
    int error = set_attribute(gic, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &gicd);
    if (!error) error = set_attribute(gic, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST, &gicr);
    for (int cpu = 0; !error && cpu < cpus; cpu++)
        if (ioctl(vm->cpu[cpu], KVM_ARM_VCPU_INIT, &init) < 0) error = -errno;
    if (!error) error = set_attribute(gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, 0);
    return error ? error : new_its(vm, its);
}
