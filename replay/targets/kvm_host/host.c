// Drives the in-kernel ITS through /dev/kvm, as told by itstrace over a shared memory.
//
// It is the only program of the machine that itstrace boots, or an ordinary process on an arm64
// machine with /dev/kvm. Counterpart: replay/targets/kvm_wire.py, which has the same numbers.
//
// The memory holds one batch at a time. itstrace writes requests, their length and CRC-32, and then
// a new `asked`; the program carries them out one by one, counting in `done`, writes the answers
// with their length and CRC-32, and sets `answered` to `asked`. Whoever watches `done` knows which
// request killed the kernel. Told `outlive`, it serves in a child: an oops ends that child, and
// itstrace, which reads it on the console, counts `lives` up to have another one.
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vm.h"

struct shared *shared;

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
    if (bytes == sizeof text || !room(bytes)) reply(0, -ENOSPC, 0, 0);  // some kernels' never ends
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
    case OP_NEW: error = new_vm(vm, r->x, r->y, (uint32_t *)bytes, size / 4, r->cpu); break;
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
    begin_answers();
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
    end_answers();
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

static void wake_every_second(void) {
    struct sigaction action = {.sa_handler = wake, .sa_flags = SA_RESTART};  // KVM_RUN ends with EINTR
    struct itimerval second = {{.tv_sec = 1}, {.tv_sec = 1}};
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &second, 0);
}

// A child that met an oops may never be gone: it closes its VM, whose locks nobody will release.
static void serve_in_children(void) {
    struct timespec nap = {.tv_nsec = 1000000};
    for (;;) {
        uint64_t lives = *(volatile uint64_t *)&shared->lives;
        int status = 0, child = fork();
        if (!child) { wake_every_second(); serve(); _exit(0); }
        while (*(volatile uint64_t *)&shared->lives == lives) {
            if (waitpid(child, &status, WNOHANG) == child && WIFEXITED(status)) return;
            nanosleep(&nap, 0);
        }
    }
}

int main(int count, char **words) {
    int init = getpid() == 1;
    if (init) mount_all();
    if (init) klogctl(8, 0, 7);  // kmemleak tells what it found as information
    int fd = init ? open_ivshmem() : count > 1 ? open(words[1], O_RDWR) : -1;
    shared = fd < 0 ? MAP_FAILED : mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    kvm = open("/dev/kvm", O_RDWR);
    run_bytes = kvm < 0 ? 0 : ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (shared == MAP_FAILED) puts("itstrace: no shared memory");
    else if (kvm < 0) puts("itstrace: no /dev/kvm: this kernel has no KVM, or its processor no EL2");
    else if (init && count > 1 && !strcmp(words[1], "outlive")) serve_in_children();
    else { wake_every_second(); serve(); }
    fflush(stdout);
    if (init) reboot(RB_POWER_OFF);
    return shared == MAP_FAILED || kvm < 0;
}
