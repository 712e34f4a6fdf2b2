// Guest RAM, looked at and copied from outside.
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "vm.h"

uint8_t *ram(struct vm *vm, uint64_t gpa, uint64_t bytes) {
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

// Returns the first page from `off` on that was touched, or the slot's end.
static uint64_t next_touched(struct look *look, struct slot *slot, uint64_t off) {
    while (off < slot->size && !touched(look, slot, off)) {
        uint64_t first = off % (CHUNK * PAGE) / PAGE;
        unsigned char *hit = memchr(look->in_core + first, 1, CHUNK - first);
        off += (hit ? hit - look->in_core - first : CHUNK - first) * PAGE;
    }
    return off < slot->size ? off : slot->size;
}

// Answers with (gpa of page, CRC-32) of every page that is not zero.
void pages(struct vm *vm) {
    uint64_t *to = answer_data(), *end = shared->answers + AREA / 8;
    struct look look = {0};
    for (int at = 1; at < MAX_SLOTS; at++) {
        struct slot *slot = &vm->slot[at];
        if (!slot->memory) continue;
        for (uint64_t off = next_touched(&look, slot, 0); off < slot->size; off = next_touched(&look, slot, off + PAGE)) {
            uint8_t *page = slot->memory + off;
            if (is_zero(page)) continue;
            if (end - to < 2) { reply(0, -ENOSPC, 0, 0); return; }
            uint64_t entry[2] = {slot->gpa + off, crc32(0, page, PAGE)};
            copy_out(to, entry, sizeof entry);
            to += 2;
        }
    }
    reply_in_place(to);
}

// Both VMs had the same memory slots given in the same order.
int copy_ram(struct vm *to, struct vm *from) {
    struct look theirs = {0}, ours = {0};
    for (int at = 1; at < MAX_SLOTS; at++) {
        struct slot *source = &from->slot[at], *target = &to->slot[at];
        if (!source->memory) continue;
        if (!target->memory || target->gpa != source->gpa || target->size != source->size) return -EFAULT;
        for (uint64_t off = next_touched(&ours, target, 0); off < target->size; off = next_touched(&ours, target, off + PAGE))
            if (!touched(&theirs, source, off)) memset(target->memory + off, 0, PAGE);
        for (uint64_t off = next_touched(&theirs, source, 0); off < source->size; off = next_touched(&theirs, source, off + PAGE))
            memcpy(target->memory + off, source->memory + off, PAGE);
    }
    return 0;
}
