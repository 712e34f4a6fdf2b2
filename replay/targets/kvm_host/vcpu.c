// Accesses that a vCPU really makes.
#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vm.h"

#define CODE_GPA 0xf000000000ull  // nothing of a VM under test lies here
#define LIST_GPA 0xf010000000ull
#define EXIT_GPA 0xf100000000ull  // and here there is no memory: a store to it ends KVM_RUN

// The guest walks the list at x10 and ends KVM_RUN with a store to x11. An entry's number chooses
// the access; what was loaded takes the place of the value. After an abort it goes on with the next.
extern const uint8_t guest_begin[], guest_vectors[], guest_end[];
asm(".pushsection .rodata\n.globl guest_begin, guest_vectors, guest_end\n.balign 2048\n"
    "guest_begin:\n"
    "1: str x1, [x11]\n mov x10, x12\n"
    "2: ldr x2, [x10]\n cbz x2, 1b\n ldr x0, [x10, #8]\n ldr x1, [x10, #16]\n"
    "   adr x3, 3f - 8\n add x3, x3, x2, lsl #3\n br x3\n"
    "3: strb w1, [x0]\n b 4f\n strh w1, [x0]\n b 4f\n str w1, [x0]\n b 4f\n str x1, [x0]\n b 4f\n"
    "   ldrb w1, [x0]\n b 4f\n ldrh w1, [x0]\n b 4f\n ldr w1, [x0]\n b 4f\n ldr x1, [x0]\n"
    "4: mov x4, #1\n str x1, [x10, #16]\n str x4, [x10, #24]\n add x10, x10, #32\n b 2b\n"
    ".balign 2048\n"
    "guest_vectors:\n"
    ".rept 16\n mov x4, #2\n str x4, [x10, #24]\n add x10, x10, #32\n b 2b\n .balign 128\n .endr\n"
    "guest_end:\n.popsection\n");

static int set_register(int cpu, uint64_t id, uint64_t value) {
    struct kvm_one_reg reg = {id, (uint64_t)&value};
    return ioctl(cpu, KVM_SET_ONE_REG, &reg) < 0 ? -errno : 0;
}

#define CORE(name) (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(name))
#define VBAR_EL1 ARM64_SYS_REG(3, 0, 12, 0, 0)

static void clean(void *memory) {  // the guest, its MMU off, does not see what is only in a cache
    asm volatile("dc civac, %0\n dsb sy" ::"r"(memory) : "memory");
}

static int map_program(struct vm *vm) {
    struct kvm_userspace_memory_region list = {
        .slot = MAX_SLOTS, .guest_phys_addr = LIST_GPA, .memory_size = sizeof shared->accesses,
        .userspace_addr = (uint64_t)shared->accesses};
    int error = map_slot(vm, 0, CODE_GPA, SLOT_BYTES);
    if (error) return error;
    memcpy(vm->slot[0].memory, guest_begin, guest_end - guest_begin);
    for (int at = 0; at < guest_end - guest_begin; at += 16) clean(vm->slot[0].memory + at);
    return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &list) < 0 ? -errno : 0;
}

static int start_cpu(struct vm *vm, int cpu) {
    int error = vm->slot[0].memory ? 0 : map_program(vm);
    if (error) return error;
    vm->run[cpu] = mmap(0, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vm->cpu[cpu], 0);
    if (vm->run[cpu] == MAP_FAILED) {
        vm->run[cpu] = 0;
        return -errno;
    }
    int fd = vm->cpu[cpu];
    error = set_register(fd, CORE(regs.pc), CODE_GPA);
    if (!error) error = set_register(fd, CORE(regs.regs[11]), EXIT_GPA);
    if (!error) error = set_register(fd, CORE(regs.regs[12]), LIST_GPA);
    if (!error) error = set_register(fd, VBAR_EL1, CODE_GPA + (guest_vectors - guest_begin));
    vm->started[cpu] = !error;
    return error;
}

static int first_to_do(void) {
    int at = 0;
    while (shared->accesses[at].number && shared->accesses[at].state != TO_DO) at++;
    return at;
}

// Runs a vCPU to its next store to EXIT_GPA. An access that met no device is marked in `missed`.
static int run_cpu(struct vm *vm, int cpu, uint8_t *missed) {
    struct kvm_run *run = vm->run[cpu];
    int alarms = 0;
    for (;;) {
        if (ioctl(vm->cpu[cpu], KVM_RUN, 0) < 0) {
            if (errno != EINTR) return -errno;
            if (++alarms == 2) return -ETIMEDOUT;
            continue;
        }
        if (run->exit_reason != KVM_EXIT_MMIO) return -EPROTO;
        if (run->mmio.phys_addr == EXIT_GPA) return 0;
        missed[first_to_do()] = 1;  // it reads as 0
        if (!run->mmio.is_write) memset(run->mmio.data, 0, sizeof run->mmio.data);
    }
}

// Has a vCPU make `count` accesses, and replies to each.
void accesses_by_cpu(const struct request *requests, int count) {
    static uint8_t missed[MAX_ACCESSES + 1];
    struct vm *vm = &vms[requests->vm % MAX_VMS];
    int cpu = requests->cpu, error = !vm->fd ? -EBADF : cpu >= vm->cpus ? -EINVAL : 0;
    memset(missed, 0, count + 1);
    for (int at = 0; at <= count; at++) {
        const struct request *r = requests + at;
        struct access access = {0};
        if (at < count) access = (struct access){1 + (r->op == OP_LOAD ? 4 : 0) + (r->sub & 3), r->x, r->y, TO_DO};
        copy_out((uint64_t *)&shared->accesses[at], &access, sizeof access);
        clean(&shared->accesses[at]);
    }
    if (!error && !vm->started[cpu]) {
        error = start_cpu(vm, cpu);
        if (!error) error = run_cpu(vm, cpu, missed);  // to its beginning
    }
    if (!error) error = run_cpu(vm, cpu, missed);
    for (int at = 0; at < count; at++) {
        struct access access;
        clean(&shared->accesses[at]);
        copy_in(&access, (uint64_t *)&shared->accesses[at], sizeof access);
        int mine = access.state == TO_DO ? (error ? error : -EPROTO) : access.state == ABORTED ? -EFAULT : 0;
        reply(access.value, missed[at] ? -ENXIO : mine, 0, 0);
    }
    *(volatile uint64_t *)&shared->accesses[0].number = 0;
}
