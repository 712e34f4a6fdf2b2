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
