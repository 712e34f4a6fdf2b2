// Answers, and bytes that go through the shared memory.
#include <string.h>

#include "wire.h"

static uint64_t *answers_end;  // where the next answer goes

void begin_answers(void) { answers_end = shared->answers; }

void end_answers(void) {
    shared->answer_bytes = (uint8_t *)answers_end - (uint8_t *)shared->answers;
    shared->answer_crc = crc_of_words(shared->answers, shared->answer_bytes);
}

// Where the data of the next answer goes, for who writes it there itself.
uint64_t *answer_data(void) { return answers_end + 2; }

void reply_in_place(const uint64_t *end) {
    struct answer answer = {0, 0, (const uint8_t *)end - (uint8_t *)answer_data()};
    copy_out(answers_end, &answer, sizeof answer);
    answers_end = (uint64_t *)end;
}

int room(uint64_t bytes) {
    return (uint64_t)((uint8_t *)(shared->answers + AREA / 8) - (uint8_t *)answers_end) >= bytes + sizeof(struct answer);
}

// The memory may be a device's: it is only ever touched in aligned doublewords.
void copy_out(uint64_t *to, const void *from, uint64_t bytes) {
    const uint8_t *byte = from;
    for (uint64_t at = 0; at < bytes; at += 8) {
        uint64_t word = 0;
        memcpy(&word, byte + at, bytes - at < 8 ? bytes - at : 8);
        *(volatile uint64_t *)to++ = word;
    }
}

void copy_in(void *to, const uint64_t *from, uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += 8) {
        uint64_t word = *(const volatile uint64_t *)from++;
        memcpy((uint8_t *)to + at, &word, bytes - at < 8 ? bytes - at : 8);
    }
}

void reply(uint64_t value, int error, const void *data, uint32_t bytes) {
    struct answer answer = {value, error, bytes};
    copy_out(answers_end, &answer, sizeof answer);
    copy_out(answers_end + 2, data, bytes);
    answers_end += 2 + (bytes + 7) / 8;
}

uint32_t crc32(uint32_t crc, const uint8_t *data, uint64_t bytes) {
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

uint32_t crc_of_words(const uint64_t *from, uint64_t bytes) {
    uint32_t crc = 0;
    for (uint64_t at = 0; at < bytes; at += 8) {
        uint64_t word = *(const volatile uint64_t *)from++;
        crc = crc32(crc, (uint8_t *)&word, bytes - at < 8 ? bytes - at : 8);
    }
    return crc;
}
