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

static uint64_t guest_read(struct vm *vm, unsigned int cpu, uint64_t gpa, unsigned int size)
{
	return guest_access(vm, cpu, 4 + __builtin_ctz(size), gpa, 0);
}
