// A virtual machine under test.
#pragma once
#include "wire.h"

enum device { ITS, GIC };

struct slot { uint64_t gpa, size; uint8_t *memory; };
struct vm {
    int fd, device[2], cpus, cpu[MAX_CPUS], started[MAX_CPUS];
    struct kvm_run *run[MAX_CPUS];
    struct slot slot[MAX_SLOTS];  // the first one is the guest's program
};

extern struct vm vms[MAX_VMS];
extern int kvm, run_bytes;

// vm.c
int new_vm(struct vm *vm, uint64_t gicd, uint64_t distances, const uint32_t *ids, int cpus,
           uint32_t interrupts);
int new_its(struct vm *vm, uint64_t its_base);
void free_vm(struct vm *vm);
int map_slot(struct vm *vm, int at, uint64_t gpa, uint64_t size);
int change_slot(struct vm *vm, uint64_t gpa, uint64_t size, int present);

// ram.c
uint8_t *ram(struct vm *vm, uint64_t gpa, uint64_t bytes);
void pages(struct vm *vm);
int copy_ram(struct vm *to, struct vm *from);

// vcpu.c
void accesses_by_cpu(const struct request *requests, int count);
