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

static int set_attr32(int fd, uint32_t group, uint64_t attr, uint32_t value)
{
	return note("attribute", attr,
		    device_attr(fd, KVM_SET_DEVICE_ATTR, group, attr, &value));
}

static int set_attr64(int fd, uint32_t group, uint64_t attr, uint64_t value)
{
	return note("attribute", attr,
		    device_attr(fd, KVM_SET_DEVICE_ATTR, group, attr, &value));
}

static int its_write(struct vm *vm, uint32_t offset, uint64_t value)
{
	return note("GITS write", offset,
		    device_attr(vm->its, KVM_SET_DEVICE_ATTR,
				KVM_DEV_ARM_VGIC_GRP_ITS_REGS, offset, &value));
}

static uint64_t its_read(struct vm *vm, uint32_t offset)
{
	uint64_t value = 0;

	note("GITS read", offset,
	     device_attr(vm->its, KVM_GET_DEVICE_ATTR,
			 KVM_DEV_ARM_VGIC_GRP_ITS_REGS, offset, &value));
	return value;
}

static int gicd_write(struct vm *vm, uint32_t offset, uint32_t value)
{
	return note("GICD write", offset,
		    device_attr(vm->gic, KVM_SET_DEVICE_ATTR,
				KVM_DEV_ARM_VGIC_GRP_DIST_REGS, offset, &value));
}

static uint64_t gicd_read(struct vm *vm, uint32_t offset)
{
	uint32_t value = 0;

	note("GICD read", offset,
	     device_attr(vm->gic, KVM_GET_DEVICE_ATTR,
			 KVM_DEV_ARM_VGIC_GRP_DIST_REGS, offset, &value));
	return value;
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

static int gicr_write64(struct vm *vm, unsigned int cpu, uint32_t offset, uint64_t value)
{
	gicr_write(vm, cpu, offset, value);
	return gicr_write(vm, cpu, offset + 4, value >> 32);
}

static uint64_t gicr_read(struct vm *vm, unsigned int cpu, uint32_t offset)
{
	uint32_t value = 0;

	note("GICR read", offset,
	     device_attr(vm->gic, KVM_GET_DEVICE_ATTR, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
			 redist_attr(cpu, offset), &value));
	return value;
}

static uint64_t gicr_read64(struct vm *vm, unsigned int cpu, uint32_t offset)
{
	return gicr_read(vm, cpu, offset) | gicr_read(vm, cpu, offset + 4) << 32;
}

static int signal_msi_at(struct vm *vm, uint64_t doorbell, uint32_t device_id, uint32_t event_id)
{
	struct kvm_msi msi = {
		.address_lo = doorbell,
		.address_hi = doorbell >> 32,
		.data = event_id,
		.flags = KVM_MSI_VALID_DEVID,
		.devid = device_id,
	};
	int delivered = ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);

	return delivered < 0 ? -errno : delivered;
}

static int signal_msi(struct vm *vm, uint32_t device_id, uint32_t event_id)
{
	return signal_msi_at(vm, ITS_BASE + 0x10040, device_id, event_id);
}
