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

static void free_vm(struct vm *vm)
{
	for (unsigned int i = 0; i < MAX_SLOTS; i++) {
		if (vm->slot[i].memory) {
			munmap(vm->slot[i].memory, vm->slot[i].size);
			close(vm->slot[i].fd);
		}
	}
	close(vm->its);
	close(vm->gic);
	for (unsigned int i = 0; i < ARRAY_SIZE(vcpu_ids); i++)
		close(vm->vcpu[i]);
	close(vm->fd);
}

/* A machine that is switched off and on. */
static void power_on(struct vm *vm)
{
	free_vm(vm);
	new_vm(vm);
}

/* What a VMM does on a host whose ITS knows no CTRL_RESET. */
static void reset_by_registers(struct vm *vm)
{
	its_write(vm, GITS_CTLR, 0);
	its_write(vm, GITS_CBASER, 0);
	for (unsigned int i = 0; i < 8; i++)
		its_write(vm, GITS_BASER0 + 8 * i, 0);
}
