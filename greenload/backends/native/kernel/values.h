// Values as each dtype has them: greenload/stages/reference.py, `as_dtype`.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "abi.h"

namespace greenload {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// Clipped and cut; what is no number is 0.
inline uint8_t as_uint8(double value) { return value > 0 ? static_cast<uint8_t>(value < 255 ? value : 255) : 0; }
inline int8_t as_int8(double value) {
  if (value != value) {
    return 0;
  }
  return static_cast<int8_t>(value < -128 ? -128 : value > 127 ? 127 : value);
}

// Rounded to nearest even, once.
uint16_t as_float16(double value);
float from_float16(uint16_t half);

// By way of a float32, as ml_dtypes does.
inline uint16_t as_bfloat16(float value) {
  uint32_t bits = bits_of(value);
  if (value != value) {
    return static_cast<uint16_t>(bits >> 16 | 0x40);
  }
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
inline float from_bfloat16(uint16_t value) { return float_of(static_cast<uint32_t>(value) << 16); }

// Value `index` of memory of a dtype, read and written.
double read_value(const uint8_t* from, int64_t index, int32_t dtype);
void write_value(uint8_t* to, int64_t index, int32_t dtype, double value);

}  // namespace greenload
