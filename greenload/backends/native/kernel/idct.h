// From a block of coefficients to its samples: JPEG's inverse DCT. There is a portable form and one for AVX2, which give
// the same bits, of whatever coefficients: those of libjpeg-turbo's vectors on x86 (jidctint-avx2.asm and -sse2.asm).
// libjpeg's portable form (jidctint.c) gives others where a sum of dequantised coefficients doesn't fit 16 bits, or a
// sample lies more than 384 levels beyond black or white: neither comes of an encoder. Both forms surely agree where the
// magnitudes of a block's dequantised coefficients add up to no more than 2000.
#pragma once
#include <cstddef>
#include <cstdint>

namespace greenload {

struct DctLoops {
  // coefficients: 64, in natural order, as they are in the file
  // quant: 64, in natural order
  // last: no coefficient behind this index in zigzag order is other than zero
  // to: eight rows of eight samples, `pitch` bytes apart. Nothing else is written.
  void (*inverse_dct)(const int16_t* coefficients, const uint16_t* quant, int last, uint8_t* to, ptrdiff_t pitch);
  // Of a row of blocks as GL_COEFFICIENTS has them (coefficients.h) passes some by, and makes samples of those behind
  // them. Reads up to 192 bytes past the end. False where the row has fewer, or where a block has its first coefficient
  // twice.
  bool (*unpack)(const uint8_t* row, const uint8_t* end, int64_t passed, int64_t count, const uint16_t* quant, uint8_t* to,
                 ptrdiff_t pitch);
};

extern const DctLoops kPortableDctLoops, kAvx2DctLoops;
// The best that this processor has.
const DctLoops& dct_loops();

// FIX(x) of jidctint.c: x in 13 bits behind the point.
constexpr int32_t kFix0298 = 2446, kFix0390 = 3196, kFix0541 = 4433, kFix0765 = 6270, kFix0899 = 7373, kFix1175 = 9633,
                  kFix1501 = 12299, kFix1847 = 15137, kFix1961 = 16069, kFix2053 = 16819, kFix2562 = 20995,
                  kFix3072 = 25172;
constexpr int kDctBits = 13;
// Columns come before rows; what lies between them has so many bits behind the point.
constexpr int kBetweenBits = 2;
constexpr int kColumnShift = kDctBits - kBetweenBits;
constexpr int kRowShift = kDctBits + kBetweenBits + 3;

// The level of a block that has no other coefficient than its first.
inline uint8_t flat_level(int16_t coefficient, uint16_t quant) {
  const int16_t value = static_cast<int16_t>(static_cast<uint32_t>(coefficient * quant) << kBetweenBits);
  const int level = (value + (1 << (kBetweenBits + 2))) >> (kBetweenBits + 3);
  return static_cast<uint8_t>((level < -128 ? -128 : level > 127 ? 127 : level) + 128);
}

}  // namespace greenload
