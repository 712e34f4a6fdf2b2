// Drives the in-kernel ITS through /dev/kvm, as told by itstrace over a shared memory.
//
// It is the only program of the machine that itstrace boots, or an ordinary process on an arm64
// machine with /dev/kvm. Counterpart: replay/targets/kvm_wire.py, which has the same numbers.
//
// The memory holds one batch at a time. itstrace writes requests, their length and CRC-32, and then
// a new `asked`; the program carries them out one by one, counting in `done`, writes the answers
// with their length and CRC-32, and sets `answered` to `asked`. Whoever watches `done` knows which
// request killed the kernel.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { MAX_VMS = 8, MAX_CPUS = 16, MAX_SLOTS = 32, AREA = 4 << 20, PAGE = 4096, MAX_ACCESSES = 2047,
       ACCESSES_AT = 12 << 20, SLOT_BYTES = 1 << 16 };  // a slot's place and size suit any page size
#define MAGIC 0x3165727473746931ull
#define CODE_GPA 0xf000000000ull  // nothing of a VM under test lies here
#define LIST_GPA 0xf010000000ull
#define EXIT_GPA 0xf100000000ull  // and here there is no memory: a store to it ends KVM_RUN

// What a vCPU is to do, in order; `number` 0 ends it. It sets `state` when it did, or could not.
struct access { uint64_t number, gpa, value, state; };
enum { TO_DO, DONE, ABORTED };

struct shared {
    uint64_t magic, asked, answered, done, request_bytes, request_crc, answer_bytes, answer_crc;
    uint64_t unused[504];
    uint64_t requests[AREA / 8], answers[AREA / 8];
    uint8_t more[ACCESSES_AT - 4096 - 2 * AREA];
    struct access accesses[MAX_ACCESSES + 1];  // here, so that itstrace sees which one killed the kernel
};

struct request { uint32_t op; uint8_t vm, sub; uint16_t cpu; uint64_t x, y, z; };
struct answer { uint64_t value; int32_t error; uint32_t bytes; };

enum op {
    OP_NEW = 1, OP_FREE, OP_SET, OP_GET, OP_MSI, OP_STORE, OP_LOAD, OP_WRITE, OP_READ, OP_PAGES,
    OP_COPY, OP_LIVE, OP_SLOT, OP_ABOUT, OP_FILL, OP_RENEW, OP_BYE, OP_HAS,
};
enum device { ITS, GIC };

struct slot { uint64_t gpa, size; uint8_t *memory; };
struct vm {
    int fd, device[2], cpus, cpu[MAX_CPUS], started[MAX_CPUS];
    struct kvm_run *run[MAX_CPUS];
    struct slot slot[MAX_SLOTS];  // the first one is the guest's program
};

static struct vm vms[MAX_VMS];
static int kvm, run_bytes;
static struct shared *shared;
static uint64_t *answers_end;  // where the next answer goes

// -- answers

static int room(uint64_t bytes) {
    return (uint64_t)((uint8_t *)(shared->answers + AREA / 8) - (uint8_t *)answers_end) >= bytes + sizeof(struct answer);
}

// The memory may be a device's: it is only ever touched in aligned doublewords.
static void copy_out(uint64_t *to, const void *from, uint64_t bytes) {
    const uint8_t *byte = from;
    for (uint64_t at = 0; at < bytes; at += 8) {
        uint64_t word = 0;
        memcpy(&word, byte + at, bytes - at < 8 ? bytes - at : 8);
        *(volatile uint64_t *)to++ = word;
    }
}

static void copy_in(void *to, const uint64_t *from, uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += 8) {
        uint64_t word = *(const volatile uint64_t *)from++;
        memcpy((uint8_t *)to + at, &word, bytes - at < 8 ? bytes - at : 8);
    }
}

static void reply(uint64_t value, int error, const void *data, uint32_t bytes) {
    struct answer answer = {value, error, bytes};
    copy_out(answers_end, &answer, sizeof answer);
    copy_out(answers_end + 2, data, bytes);
    answers_end += 2 + (bytes + 7) / 8;
}

static uint32_t crc32(uint32_t crc, const uint8_t *data, uint64_t bytes) {
    static uint32_t table[256];
    if (!table[1])
        for (uint32_t n = 0; n < 256; n++) {
            uint32_t c = n;
            for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
            table[n] = c;
        }
    crc = ~crc;
    while (bytes--) crc = table[(crc ^ *data++) & 0xff] ^ crc >> 8;
    return ~crc;
}

static uint32_t crc_of_words(const uint64_t *from, uint64_t bytes) {
    uint32_t crc = 0;
    for (uint64_t at = 0; at < bytes; at += 8) {
        uint64_t word = *(const volatile uint64_t *)from++;
        crc = crc32(crc, (uint8_t *)&word, bytes - at < 8 ? bytes - at : 8);
    }
    return crc;
}

// -- a VM

static int set_attribute(int fd, uint32_t group, uint64_t attribute, void *value) {
    struct kvm_device_attr a = {.group = group, .attr = attribute, .addr = (uint64_t)value};
    return ioctl(fd, KVM_SET_DEVICE_ATTR, &a) < 0 ? -errno : 0;
}

static int new_device(struct vm *vm, int type) {
    struct kvm_create_device device = {.type = type};
    return ioctl(vm->fd, KVM_CREATE_DEVICE, &device) < 0 ? -errno : (int)device.fd;
}

static int map_slot(struct vm *vm, int at, uint64_t gpa, uint64_t size) {
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

static int change_slot(struct vm *vm, uint64_t gpa, uint64_t size, int present) {
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

static void free_vm(struct vm *vm) {
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

static int new_its(struct vm *vm, uint64_t its_base) {
    vm->device[ITS] = new_device(vm, KVM_DEV_TYPE_ARM_VGIC_ITS);
    if (vm->device[ITS] < 0) return vm->device[ITS];
    int error = set_attribute(vm->device[ITS], KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, &its_base);
    return error ? error : set_attribute(vm->device[ITS], KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, 0);
}

// x: where the GIC is; y: the distance of ITS and redistributors from it, a half each; `ids`: of the vCPUs
static int new_vm(struct vm *vm, uint64_t gicd, uint64_t distances, const uint32_t *ids, int cpus) {
    struct kvm_vcpu_init init;
    uint64_t its = gicd + (distances & 0xffffffff), gicr = gicd + (distances >> 32);
    uint32_t interrupts = 64;
    free_vm(vm);
    if (cpus < 1 || cpus > MAX_CPUS) return -EINVAL;
    vm->fd = ioctl(kvm, KVM_CREATE_VM, 0);
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

// -- accesses that a vCPU really makes

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
static void accesses_by_cpu(const struct request *requests, int count) {
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

// -- guest RAM

static uint8_t *ram(struct vm *vm, uint64_t gpa, uint64_t bytes) {
    for (int at = 1; at < MAX_SLOTS; at++) {
        struct slot *slot = &vm->slot[at];
        if (slot->memory && gpa >= slot->gpa && bytes <= slot->size && gpa - slot->gpa <= slot->size - bytes)
            return slot->memory + (gpa - slot->gpa);
    }
    return 0;
}

static int is_zero(const uint8_t *page) {
    return !page[0] && !memcmp(page, page + 1, PAGE - 1);
}

// A page that was never touched need not be read; the kernel tells it of a chunk of them at once.
enum { CHUNK = 512 };
struct look { struct slot *slot; uint64_t chunk; unsigned char in_core[CHUNK]; };

static int touched(struct look *look, struct slot *slot, uint64_t off) {
    uint64_t chunk = off - off % (CHUNK * PAGE), bytes = slot->size - chunk;
    if (look->slot != slot || look->chunk != chunk) {
        if (bytes > CHUNK * PAGE) bytes = CHUNK * PAGE;
        if (mincore(slot->memory + chunk, bytes, look->in_core) < 0) memset(look->in_core, 1, CHUNK);
        look->slot = slot;
        look->chunk = chunk;
    }
    return look->in_core[(off - chunk) / PAGE] & 1;
}

// Answers with (gpa of page, CRC-32) of every page that is not zero.
static void pages(struct vm *vm) {
    uint64_t *begin = answers_end, *to = begin + 2, *end = shared->answers + AREA / 8;
    struct look look = {0};
    for (int at = 1; at < MAX_SLOTS; at++)
        for (uint64_t off = 0; vm->slot[at].memory && off < vm->slot[at].size; off += PAGE) {
            uint8_t *page = vm->slot[at].memory + off;
            if (!touched(&look, &vm->slot[at], off) || is_zero(page)) continue;
            if (end - to < 2) { reply(0, -ENOSPC, 0, 0); return; }
            uint64_t entry[2] = {vm->slot[at].gpa + off, crc32(0, page, PAGE)};
            copy_out(to, entry, sizeof entry);
            to += 2;
        }
    struct answer answer = {0, 0, (uint8_t *)to - (uint8_t *)(begin + 2)};
    copy_out(begin, &answer, sizeof answer);
    answers_end = to;
}

// Both VMs had the same memory slots given in the same order.
static int copy_ram(struct vm *to, struct vm *from) {
    struct look theirs = {0}, ours = {0};
    for (int at = 1; at < MAX_SLOTS; at++) {
        struct slot *source = &from->slot[at], *target = &to->slot[at];
        if (!source->memory) continue;
        if (!target->memory || target->gpa != source->gpa || target->size != source->size) return -EFAULT;
        for (uint64_t off = 0; off < source->size; off += PAGE)
            if (touched(&theirs, source, off)) memcpy(target->memory + off, source->memory + off, PAGE);
            else if (touched(&ours, target, off)) memset(target->memory + off, 0, PAGE);
    }
    return 0;
}

// -- what debugfs shows of a VM

static void live(struct vm *vm, const char *name) {
    static char text[1 << 20];
    char path[320], want[64];
    size_t bytes = 0;
    snprintf(path, sizeof path, "/sys/kernel/debug/kvm/%d-%d", getpid(), vm->fd);
    DIR *folder = opendir(path);
    struct dirent *entry;
    snprintf(want, sizeof want, "%s", name);
    FILE *file = 0;
    while (folder && (entry = readdir(folder)))
        if (!strncmp(entry->d_name, want, strlen(want))) {
            snprintf(path, sizeof path, "/sys/kernel/debug/kvm/%d-%d/%s", getpid(), vm->fd, entry->d_name);
            file = fopen(path, "r");
            break;
        }
    if (folder) closedir(folder);
    if (!file) { reply(0, -ENOENT, 0, 0); return; }
    while (bytes < sizeof text) {
        size_t got = fread(text + bytes, 1, sizeof text - bytes, file);
        if (!got) break;
        bytes += got;
    }
    fclose(file);
    if (!room(bytes)) reply(0, -ENOSPC, 0, 0);
    else reply(0, 0, text, bytes);
}

static void about(void) {
    struct utsname name;
    char text[512];
    uname(&name);
    int bytes = snprintf(text, sizeof text, "%s\n%s\n%s\n", name.release, name.version, name.machine);
    reply(0, 0, text, bytes);
}

// -- one request

static uint64_t attribute(struct request *r, struct vm *vm, int *error) {
    uint64_t value = r->y;
    uint32_t group = r->cpu, bytes = r->z;
    struct kvm_device_attr a = {.group = group, .attr = r->x, .addr = bytes ? (uint64_t)&value : 0};
    int fd = vm->device[r->sub & 1];
    unsigned long how = r->op == OP_SET ? KVM_SET_DEVICE_ATTR : r->op == OP_GET ? KVM_GET_DEVICE_ATTR : KVM_HAS_DEVICE_ATTR;
    *error = ioctl(fd, how, &a) < 0 ? -errno : 0;
    return bytes == 4 ? (uint32_t)value : value;
}

static int signal_msi(struct request *r, struct vm *vm) {
    struct kvm_msi msi = {.address_lo = r->x, .address_hi = r->x >> 32, .data = r->y,
                          .flags = KVM_MSI_VALID_DEVID, .devid = r->z};
    int result = ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
    return result < 0 ? -errno : result;
}

// Returns how many bytes of payload stand behind the request, or -1 if that cannot be.
static int64_t carry_out(struct request *r, const uint64_t *payload, uint64_t left) {
    static uint8_t bytes[1 << 20];
    struct vm *vm = &vms[r->vm % MAX_VMS];
    uint64_t value = 0, size = r->op == OP_WRITE || r->op == OP_NEW ? r->z : 0;
    int error = 0;
    if (size > left || size > sizeof bytes) return -1;
    copy_in(bytes, payload, size);
    if (!vm->fd && r->op != OP_NEW && r->op != OP_ABOUT && r->op != OP_BYE && r->op != OP_FREE) {
        reply(0, -EBADF, 0, 0);
        return (size + 7) & ~7ull;
    }
    uint8_t *memory = 0;
    switch (r->op) {
    case OP_NEW: error = new_vm(vm, r->x, r->y, (uint32_t *)bytes, size / 4); break;
    case OP_FREE: free_vm(vm); break;
    case OP_SET: case OP_GET: case OP_HAS: value = attribute(r, vm, &error); break;
    case OP_MSI: error = signal_msi(r, vm); break;
    case OP_WRITE:
        if ((memory = ram(vm, r->x, size))) memcpy(memory, bytes, size);
        error = memory ? 0 : -EFAULT;
        break;
    case OP_FILL:
        if ((memory = ram(vm, r->x, r->y))) memset(memory, r->z, r->y);
        error = memory ? 0 : -EFAULT;
        break;
    case OP_READ:
        memory = r->y <= sizeof bytes ? ram(vm, r->x, r->y) : 0;
        if (memory && room(r->y)) { reply(0, 0, memory, r->y); return 0; }
        error = memory ? -ENOSPC : -EFAULT;
        break;
    case OP_PAGES: pages(vm); return 0;
    case OP_COPY: error = copy_ram(vm, &vms[r->sub % MAX_VMS]); break;
    case OP_LIVE: live(vm, r->sub ? "vgic-its-state" : "vgic-state"); return 0;
    case OP_SLOT: error = change_slot(vm, r->x, r->y, r->z); break;
    case OP_RENEW:
        if (vm->device[ITS] > 0) close(vm->device[ITS]);
        error = new_its(vm, r->x);
        break;
    case OP_ABOUT: about(); return 0;
    case OP_BYE: break;
    default: error = -ENOSYS;
    }
    reply(value, error, 0, 0);
    return (size + 7) & ~7ull;
}

static int is_access(const struct request *r) {
    return r->op == OP_STORE || r->op == OP_LOAD;
}

// Gathers the accesses of one vCPU that follow each other; returns how many.
static int gather(struct request *requests, uint64_t at, uint64_t bytes) {
    int count = 0;
    while (count < MAX_ACCESSES && at + sizeof *requests <= bytes && room((count + 1) * sizeof(struct answer))) {
        struct request *r = requests + count;
        copy_in(r, shared->requests + at / 8, sizeof *r);
        if (!is_access(r) || r->vm != requests->vm || r->cpu != requests->cpu) break;
        at += sizeof *r;
        count++;
    }
    return count;
}

// Carries out the batch; returns whether it was the last.
static int batch(void) {
    static struct request gathered[MAX_ACCESSES];
    uint64_t bytes = shared->request_bytes, at = 0, count = 0;
    int last = 0;
    answers_end = shared->answers;
    shared->done = 0;
    if (bytes > AREA || crc_of_words(shared->requests, bytes) != shared->request_crc) bytes = 0;
    while (at + sizeof(struct request) <= bytes && room(sizeof(struct answer))) {
        struct request r;
        copy_in(&r, shared->requests + at / 8, sizeof r);
        if (is_access(&r)) {
            int many = gather(gathered, at, bytes);
            accesses_by_cpu(gathered, many);
            at += many * sizeof r;
            *(volatile uint64_t *)&shared->done = count += many;
            continue;
        }
        at += sizeof r;
        int64_t used = carry_out(&r, shared->requests + at / 8, bytes - at);
        if (used < 0) break;
        at += used;
        last |= r.op == OP_BYE;
        *(volatile uint64_t *)&shared->done = ++count;
    }
    shared->answer_bytes = (uint8_t *)answers_end - (uint8_t *)shared->answers;
    shared->answer_crc = crc_of_words(shared->answers, shared->answer_bytes);
    return last;
}

static void serve(void) {
    uint64_t answered = shared->answered;
    struct timespec nap = {.tv_nsec = 200000};
    __atomic_store_n(&shared->magic, MAGIC, __ATOMIC_RELEASE);
    for (unsigned idle = 0;; idle++) {
        uint64_t asked = __atomic_load_n(&shared->asked, __ATOMIC_ACQUIRE);
        if (asked != answered + 1) {
            if (idle > 2000) nanosleep(&nap, 0);
            else sched_yield();
            continue;
        }
        int last = batch();
        answered = asked;
        __atomic_store_n(&shared->answered, answered, __ATOMIC_RELEASE);
        if (last) return;
        idle = 0;
    }
}

// -- where the memory is

static int has_line(const char *path, const char *want) {
    char text[32] = "";
    FILE *file = fopen(path, "r");
    if (file) {
        if (!fgets(text, sizeof text, file)) text[0] = 0;
        fclose(file);
    }
    return !strncmp(text, want, strlen(want));
}

// QEMU's ivshmem (1af4:1110) has the memory behind its third BAR.
static int open_ivshmem(void) {
    DIR *folder = opendir("/sys/bus/pci/devices");
    struct dirent *entry;
    char path[400];
    while (folder && (entry = readdir(folder))) {
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/vendor", entry->d_name);
        if (!has_line(path, "0x1af4")) continue;
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/device", entry->d_name);
        if (!has_line(path, "0x1110")) continue;
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/enable", entry->d_name);
        FILE *enable = fopen(path, "w");
        if (enable) { fputs("1", enable); fclose(enable); }
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/resource2", entry->d_name);
        return open(path, O_RDWR | O_SYNC);
    }
    return -1;
}

static void mount_all(void) {
    mkdir("/proc", 0755); mkdir("/sys", 0755); mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, 0);
    mount("sysfs", "/sys", "sysfs", 0, 0);
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    mount("debugfs", "/sys/kernel/debug", "debugfs", 0, 0);
}

static void wake(int number) { (void)number; }

int main(int count, char **words) {
    int init = getpid() == 1;
    if (init) mount_all();
    if (init) klogctl(8, 0, 7);  // kmemleak tells what it found as information
    struct sigaction action = {.sa_handler = wake, .sa_flags = SA_RESTART};  // KVM_RUN ends with EINTR
    struct itimerval second = {{.tv_sec = 1}, {.tv_sec = 1}};
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &second, 0);
    int fd = init ? open_ivshmem() : count > 1 ? open(words[1], O_RDWR) : -1;
    shared = fd < 0 ? MAP_FAILED : mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    kvm = open("/dev/kvm", O_RDWR);
    run_bytes = kvm < 0 ? 0 : ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (shared == MAP_FAILED) puts("itstrace: no shared memory");
    else if (kvm < 0) puts("itstrace: no /dev/kvm: this kernel has no KVM, or its processor no EL2");
    else serve();
    fflush(stdout);
    if (init) reboot(RB_POWER_OFF);
    return shared == MAP_FAILED || kvm < 0;
}
