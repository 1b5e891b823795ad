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
inline uint16_t as_float16(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint16_t sign = static_cast<uint16_t>(bits >> 48 & 0x8000);
  const double size = std::fabs(value);
  if (!(size < 65536.0)) {
    return static_cast<uint16_t>(sign | (value != value ? 0x7E00 : 0x7C00));
  }
  if (size < 0x1p-14) {  // in steps of 2⁻²⁴, which is what a double of 2²⁸ has
    const double steps = size + 0x1p28;
    memcpy(&bits, &steps, sizeof bits);
    return static_cast<uint16_t>(sign | (bits & 0x7FF));
  }
  // Another bias of the exponent, and 42 bits of the fraction less. Rounding may carry over into the exponent, up to
  // infinity.
  bits = (bits & ~(uint64_t{1} << 63)) - (uint64_t{1023 - 15} << 52);
  bits += (uint64_t{1} << 41) - 1 + (bits >> 42 & 1);
  return static_cast<uint16_t>(sign | bits >> 42);
}
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

// How values of a dtype are read and written: of type Value in memory.
struct Uint8 {
  using Value = uint8_t;
  static double read(uint8_t value) { return value; }
  static uint8_t write(double value) { return as_uint8(value); }
};
struct Int8 {
  using Value = int8_t;
  static double read(int8_t value) { return value; }
  static int8_t write(double value) { return as_int8(value); }
};
struct Float16 {
  using Value = uint16_t;
  static double read(uint16_t value) { return from_float16(value); }
  static uint16_t write(double value) { return as_float16(value); }
};
struct Bfloat16 {
  using Value = uint16_t;
  static double read(uint16_t value) { return from_bfloat16(value); }
  static uint16_t write(double value) { return as_bfloat16(static_cast<float>(value)); }
};
struct Float32 {
  using Value = float;
  static double read(float value) { return value; }
  static float write(double value) { return static_cast<float>(value); }
};

// Calls `work` with the one of a gl_dtype.
template <class Work>
auto by_dtype(int32_t dtype, Work work) {
  switch (dtype) {
    case GL_UINT8: return work(Uint8());
    case GL_INT8: return work(Int8());
    case GL_FLOAT16: return work(Float16());
    case GL_BFLOAT16: return work(Bfloat16());
    default: return work(Float32());
  }
}

// Value `index` of memory of a dtype, read and written.
double read_value(const uint8_t* from, int64_t index, int32_t dtype);
void write_value(uint8_t* to, int64_t index, int32_t dtype, double value);

}  // namespace greenload
