#include "crc32c.h"

#include <cstring>

#include "rows.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace greenload {

namespace {

struct Tables {
  uint32_t of[8][256];
  Tables() {
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t crc = i;
      for (int bit = 0; bit < 8; bit++) {
        crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
      }
      of[0][i] = crc;
    }
    for (int k = 1; k < 8; k++) {
      for (uint32_t i = 0; i < 256; i++) {
        of[k][i] = of[k - 1][i] >> 8 ^ of[0][of[k - 1][i] & 255];
      }
    }
  }
};

// Eight bytes at a time (Kounavis and Berry's "slicing").
uint32_t portable(const uint8_t* at, size_t length, uint32_t crc) {
  static const Tables tables;
  const auto& of = tables.of;
  for (; length >= 8; length -= 8, at += 8) {
    crc ^= at[0] | static_cast<uint32_t>(at[1]) << 8 | static_cast<uint32_t>(at[2]) << 16 |
           static_cast<uint32_t>(at[3]) << 24;
    crc = of[7][crc & 255] ^ of[6][crc >> 8 & 255] ^ of[5][crc >> 16 & 255] ^ of[4][crc >> 24] ^ of[3][at[4]] ^
          of[2][at[5]] ^ of[1][at[6]] ^ of[0][at[7]];
  }
  for (; length; length--, at++) {
    crc = crc >> 8 ^ of[0][(crc ^ *at) & 255];
  }
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t by_instruction(const uint8_t* at, size_t length, uint32_t crc) {
  uint64_t sum = crc;
  for (; length >= 8; length -= 8, at += 8) {
    uint64_t eight;
    memcpy(&eight, at, 8);
    sum = _mm_crc32_u64(sum, eight);
  }
  for (; length; length--, at++) {
    sum = _mm_crc32_u8(static_cast<uint32_t>(sum), *at);
  }
  return static_cast<uint32_t>(sum);
}
#endif

}  // namespace

uint32_t crc32c(const void* data, size_t length, uint32_t before) {
  const uint8_t* at = static_cast<const uint8_t*>(data);
#if defined(__x86_64__)
  if (uses_avx2()) {  // which comes with it
    return ~by_instruction(at, length, ~before);
  }
#endif
  return ~portable(at, length, ~before);
}

}  // namespace greenload
