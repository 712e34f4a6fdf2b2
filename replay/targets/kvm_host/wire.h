// What itstrace and the program on a KVM host share; replay/targets/kvm_wire.py has the same numbers.
#pragma once
#include <stdint.h>

enum { MAX_VMS = 8, MAX_CPUS = 16, MAX_SLOTS = 32, AREA = 4 << 20, PAGE = 4096, MAX_ACCESSES = 2047,
       ACCESSES_AT = 12 << 20, SLOT_BYTES = 1 << 16 };  // a slot's place and size suit any page size

#define MAGIC 0x3165727473746931ull

// What a vCPU is to do, in order; `number` 0 ends it. It sets `state` when it did, or could not.
struct access { uint64_t number, gpa, value, state; };
enum { TO_DO, DONE, ABORTED };

struct shared {
    uint64_t magic, asked, answered, done, request_bytes, request_crc, answer_bytes, answer_crc, lives;
    uint64_t unused[503];
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

extern struct shared *shared;

// answers.c
void begin_answers(void);
void end_answers(void);
int room(uint64_t bytes);
void reply(uint64_t value, int error, const void *data, uint32_t bytes);
uint64_t *answer_data(void);
void reply_in_place(const uint64_t *end);
void copy_out(uint64_t *to, const void *from, uint64_t bytes);
void copy_in(void *to, const uint64_t *from, uint64_t bytes);
uint32_t crc32(uint32_t crc, const uint8_t *data, uint64_t bytes);
uint32_t crc_of_words(const uint64_t *from, uint64_t bytes);
